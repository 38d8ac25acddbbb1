//! Users.

use super::{Db, MultiBackend, is_taken};
use crate::domain::{
    Error, Result,
    filter::{Filter, Operator, Value},
};
use diesel::{dsl::count_star, expression::BoxableExpression, prelude::*, sql_types::Bool};

diesel::table! {
    users (id) {
        id -> Text,
        origin -> Text,
        user_name -> Text,
        user_name_key -> Text,
        password_hash -> Nullable<Text>,
        email -> Text,
        given_name -> Text,
        family_name -> Text,
        external_id -> Text,
        active -> Bool,
        verified -> Bool,
        salt -> Text,
        version -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
        password_changed_at -> BigInt,
        last_logon_at -> Nullable<BigInt>,
        previous_logon_at -> Nullable<BigInt>,
    }
}

diesel::define_sql_function! {
    /// Lower case, as both databases have it.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// A user.
#[derive(Clone, Debug, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = users, treat_none_as_null = true)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) origin: String,
    pub(crate) user_name: String,
    pub(crate) user_name_key: String,
    pub(crate) password_hash: Option<String>,
    pub(crate) email: String,
    pub(crate) given_name: String,
    pub(crate) family_name: String,
    pub(crate) external_id: String,
    pub(crate) active: bool,
    pub(crate) verified: bool,
    pub(crate) salt: String,
    pub(crate) version: i64,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) password_changed_at: i64,
    pub(crate) last_logon_at: Option<i64>,
    pub(crate) previous_logon_at: Option<i64>,
}

/// Adds a user. Fails with `UserTaken` if its origin has one of that name.
pub(crate) fn insert(conn: &mut Db, user: &User) -> Result<()> {
    if let Some(holder) = find_by_name(conn, &user.origin, &user.user_name)? {
        return Err(Error::UserTaken { name: user.user_name.clone(), holder: Some(holder.id) });
    }
    match diesel::insert_into(users::table).values(user).execute(conn) {
        // somebody was faster; the transaction is over, so nobody can be asked who
        Err(e) if is_taken(&e) => Err(Error::UserTaken { name: user.user_name.clone(), holder: None }),
        other => Ok(other.map(|_| ())?),
    }
}

/// Keeps a changed user if nobody changed it since; `false` if somebody did.
pub(crate) fn update(conn: &mut Db, user: &User, seen: i64) -> Result<bool> {
    let row = users::table.filter(users::id.eq(&user.id)).filter(users::version.eq(seen));
    match diesel::update(row).set(user).execute(conn) {
        Err(e) if is_taken(&e) => Err(Error::UserTaken { name: user.user_name.clone(), holder: None }),
        other => Ok(other? == 1),
    }
}

/// Finds a user.
pub(crate) fn find(conn: &mut Db, id: &str) -> Result<Option<User>> {
    Ok(users::table.find(id).first(conn).optional()?)
}

/// Finds a user by name, whatever its case.
pub(crate) fn find_by_name(conn: &mut Db, origin: &str, name: &str) -> Result<Option<User>> {
    let row = users::table.filter(users::origin.eq(origin)).filter(users::user_name_key.eq(name.to_lowercase()));
    Ok(row.first(conn).optional()?)
}

/// Removes a user with its memberships and tokens; `false` if there is none.
pub(crate) fn delete(conn: &mut Db, id: &str) -> Result<bool> {
    Ok(diesel::delete(users::table.find(id)).execute(conn)? == 1)
}

/// Notes a login.
pub(crate) fn logged_in(conn: &mut Db, user: &User, now: i64) -> Result<()> {
    let set = (users::last_logon_at.eq(Some(now)), users::previous_logon_at.eq(user.last_logon_at));
    diesel::update(users::table.find(&user.id)).set(set).execute(conn)?;
    Ok(())
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Created,
    Name,
}

/// One page of the users that a filter lets through, and how many there are in all.
pub(crate) fn list(
    conn: &mut Db,
    filter: Option<&Filter>,
    sort: (Sort, bool),
    offset: i64,
    limit: i64,
) -> Result<(Vec<User>, i64)> {
    let mut page = users::table.into_boxed::<MultiBackend>();
    let mut all = users::table.select(count_star()).into_boxed::<MultiBackend>();
    if let Some(filter) = filter {
        page = page.filter(condition(filter)?);
        all = all.filter(condition(filter)?);
    }
    page = match sort {
        (Sort::Created, false) => page.order((users::created_at.asc(), users::id.asc())),
        (Sort::Created, true) => page.order((users::created_at.desc(), users::id.desc())),
        (Sort::Name, false) => page.order((users::user_name_key.asc(), users::id.asc())),
        (Sort::Name, true) => page.order((users::user_name_key.desc(), users::id.desc())),
    };
    Ok((page.offset(offset).limit(limit).load(conn)?, all.first(conn)?))
}

type Condition = Box<dyn BoxableExpression<users::table, MultiBackend, SqlType = Bool>>;

/// A filter as a condition whose values are all bound. Columns not named here cannot be reached.
fn condition(filter: &Filter) -> Result<Condition> {
    Ok(match filter {
        Filter::And(a, b) => Box::new(condition(a)?.and(condition(b)?)),
        Filter::Or(a, b) => Box::new(condition(a)?.or(condition(b)?)),
        Filter::Test { attribute, operator, value } => test(attribute, *operator, value)?,
    })
}

macro_rules! text_test {
    ($column:expr, $operator:expr, $value:expr) => {{
        let text = $value.text()?.to_lowercase();
        let column = lower($column);
        let condition: Condition = match $operator {
            Operator::Equal => Box::new(column.eq(text)),
            Operator::Contains => Box::new(column.like(format!("%{}%", like(&text))).escape('!')),
            Operator::StartsWith => Box::new(column.like(format!("{}%", like(&text))).escape('!')),
            Operator::Present => Box::new(column.ne(String::new())),
            Operator::Greater => Box::new(column.gt(text)),
            Operator::GreaterOrEqual => Box::new(column.ge(text)),
            Operator::Less => Box::new(column.lt(text)),
            Operator::LessOrEqual => Box::new(column.le(text)),
        };
        condition
    }};
}

macro_rules! number_test {
    ($column:expr, $operator:expr, $number:expr) => {{
        let condition: Condition = match $operator {
            Operator::Equal => Box::new($column.eq($number?)),
            Operator::Greater => Box::new($column.gt($number?)),
            Operator::GreaterOrEqual => Box::new($column.ge($number?)),
            Operator::Less => Box::new($column.lt($number?)),
            Operator::LessOrEqual => Box::new($column.le($number?)),
            Operator::Present => Box::new($column.ge(0)),
            Operator::Contains | Operator::StartsWith => return Err(Error::Filter("co and sw are for texts".into())),
        };
        condition
    }};
}

fn test(attribute: &str, operator: Operator, value: &Value) -> Result<Condition> {
    Ok(match attribute {
        // ids are lower-case already, and this way their index serves
        "id" if operator == Operator::Equal => Box::new(users::id.eq(value.text()?.to_lowercase())),
        "username" if operator == Operator::Equal => Box::new(users::user_name_key.eq(value.text()?.to_lowercase())),
        "id" => text_test!(users::id, operator, value),
        "username" => text_test!(users::user_name_key, operator, value),
        "email" | "emails" | "emails.value" => text_test!(users::email, operator, value),
        "givenname" | "name.givenname" => text_test!(users::given_name, operator, value),
        "familyname" | "name.familyname" => text_test!(users::family_name, operator, value),
        "origin" => text_test!(users::origin, operator, value),
        "externalid" | "external_id" => text_test!(users::external_id, operator, value),
        "active" => flag(users::active.eq(value.flag(operator)?)),
        "verified" => flag(users::verified.eq(value.flag(operator)?)),
        "created" | "meta.created" => number_test!(users::created_at, operator, value.micros()),
        "lastmodified" | "meta.lastmodified" => number_test!(users::updated_at, operator, value.micros()),
        "version" | "meta.version" => number_test!(users::version, operator, value.number()),
        _ => return Err(Error::Filter(format!("there is no attribute `{attribute}` to filter by"))),
    })
}

fn flag<E>(expression: E) -> Condition
where
    E: BoxableExpression<users::table, MultiBackend, SqlType = Bool> + 'static,
{
    Box::new(expression)
}

/// A text whose characters mean themselves in LIKE.
fn like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
