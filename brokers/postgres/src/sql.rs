//! Statements as text.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use std::fmt;

/// A name, quoted.
pub(crate) struct Name<'a>(pub(crate) &'a str);
/// A value, quoted.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_identifier(self.0))
    }
}
impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_literal(self.0))
    }
}

/// What makes a new database a tenant's own; run in it. `{owner}` is its owner role.
///
/// The database itself belongs to the broker, so that a tenant cannot change its limits; the schema `public` is the tenant's.
/// What shows other tenants' sessions is not for everybody any more, and neither is writing large objects, which needs no
/// other right and could not be taken away beyond the plan's size.
pub(crate) fn prepare(owner: &str) -> String {
    let owner = Name(owner);
    let large = LARGE_OBJECTS;
    format!(
        "ALTER SCHEMA public OWNER TO {owner};
         REVOKE ALL ON SCHEMA public FROM PUBLIC;
         REVOKE EXECUTE ON FUNCTION {large} FROM PUBLIC;
         GRANT EXECUTE ON FUNCTION {large} TO {owner};
         DO $$
         DECLARE f record;
         BEGIN
             FOR f IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
                 AND (proname = 'pg_stat_get_activity' OR proname = 'pg_stat_get_progress_info' OR proname LIKE 'pg\\_stat\\_get\\_backend\\_%')
             LOOP
                 EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.name);
             END LOOP;
         END $$;"
    )
}

/// The functions that write large objects.
pub(crate) const LARGE_OBJECTS: &str = "lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea), lo_put(oid, bigint, bytea), \
     lowrite(integer, bytea), lo_truncate(integer, integer), lo_truncate64(integer, bigint)";

/// Takes writing away from a database that is too large, by privileges that its tenant cannot give back to itself: tables and
/// schemas go to the role [`FROZEN`]; the tenant may read, delete and truncate. Run in the database, in one transaction.
///
/// Functions stay with the tenant, so that one that runs with its owner's rights cannot write either; tables with rules may not
/// be deleted from, because a rule acts with the rights of the table's owner.
pub(crate) fn freeze(database: &str, owner: &str) -> String {
    let (database, owner, large, frozen) = (Name(database), Name(owner), LARGE_OBJECTS, FROZEN);
    format!(
        "SET LOCAL lock_timeout = '5s';
         REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM {owner};
         REVOKE EXECUTE ON FUNCTION {large} FROM {owner};
         DO $$
         DECLARE o record; g record;
         BEGIN
             FOR o IN SELECT n.oid, n.nspname AS name, n.nspacl AS acl FROM pg_namespace n
                 WHERE n.nspowner <> 10 AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
             LOOP
                 EXECUTE format('ALTER SCHEMA %I OWNER TO {frozen}', o.name);
                 EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', o.name);
                 FOR g IN SELECT DISTINCT a.grantee::regrole AS role FROM pg_namespace n, aclexplode(n.nspacl) a
                     WHERE n.oid = o.oid AND a.grantee <> 0 AND a.grantee <> '{frozen}'::regrole
                 LOOP
                     EXECUTE format('REVOKE ALL ON SCHEMA %I FROM %s CASCADE', o.name, g.role);
                 END LOOP;
                 EXECUTE format('GRANT USAGE ON SCHEMA %I TO {owner}', o.name);
             END LOOP;
             FOR o IN SELECT c.oid, c.oid::regclass AS name, c.relkind, c.relhasrules FROM pg_class c
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relowner NOT IN (10, '{frozen}'::regrole)
                     AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
             LOOP
                 EXECUTE format('ALTER TABLE %s OWNER TO {frozen}', o.name);
             END LOOP;
             FOR o IN SELECT c.oid, c.oid::regclass AS name, c.relkind, c.relhasrules FROM pg_class c
                 WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relowner = '{frozen}'::regrole
             LOOP
                 EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', o.name);
                 FOR g IN SELECT DISTINCT a.grantee::regrole AS role FROM pg_class c, aclexplode(c.relacl) a
                         WHERE c.oid = o.oid AND a.grantee <> 0 AND a.grantee <> '{frozen}'::regrole
                     UNION SELECT a.grantee::regrole FROM pg_attribute t, aclexplode(t.attacl) a
                         WHERE t.attrelid = o.oid AND a.grantee <> 0 AND a.grantee <> '{frozen}'::regrole
                 LOOP
                     EXECUTE format('REVOKE ALL ON %s FROM %s CASCADE', o.name, g.role);
                 END LOOP;
                 EXECUTE format('GRANT SELECT ON %s TO {owner}', o.name);
                 IF o.relkind IN ('r', 'p') AND NOT o.relhasrules THEN
                     EXECUTE format('GRANT DELETE, TRUNCATE ON %s TO {owner}', o.name);
                 END IF;
             END LOOP;
         END $$;"
    )
}

/// Gives everything back to the tenant. Run in the database, in one transaction.
pub(crate) fn thaw(database: &str, owner: &str) -> String {
    let (database, owner, large, frozen) = (Name(database), Name(owner), LARGE_OBJECTS, FROZEN);
    format!(
        "SET LOCAL lock_timeout = '5s';
         GRANT CREATE, TEMPORARY ON DATABASE {database} TO {owner};
         GRANT EXECUTE ON FUNCTION {large} TO {owner};
         REASSIGN OWNED BY {frozen} TO {owner};"
    )
}

/// The role that holds tables which may not be written.
pub(crate) const FROZEN: &str = "cupola_frozen";

/// Gives what a login made as itself to the owner role; run in the database.
pub(crate) fn hand_over(login: &str, owner: &str) -> String {
    format!("REASSIGN OWNED BY {} TO {}", Name(login), Name(owner))
}

/// What must be there in every server; run in the administrator's database.
pub(crate) const SETTLE: &str = "
    REVOKE ALL ON DATABASE postgres FROM PUBLIC;
    REVOKE ALL ON DATABASE template1 FROM PUBLIC;
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cupola_frozen') THEN CREATE ROLE cupola_frozen NOLOGIN; END IF;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cupola_tools') THEN CREATE ROLE cupola_tools NOLOGIN; END IF;
    END $$;
    CREATE SCHEMA IF NOT EXISTS cupola;
    CREATE TABLE IF NOT EXISTS cupola.databases (
        name text PRIMARY KEY,
        owner text NOT NULL,
        instance text UNIQUE,
        state text NOT NULL CHECK (state IN ('making', 'spare', 'ready', 'dropping')),
        collation_name text NOT NULL,
        size_limit bigint NOT NULL,
        connections integer NOT NULL,
        made_at timestamptz NOT NULL DEFAULT now()
    );";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_names_and_values_are_doubled() {
        assert_eq!(Name(r#"a"; DROP ROLE x; --"#).to_string(), r#""a""; DROP ROLE x; --""#);
        assert_eq!(Text(r"it's \ here").to_string(), r" E'it''s \\ here'");
    }
}
