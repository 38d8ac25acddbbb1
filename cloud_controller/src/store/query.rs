//! What a list request asks for, in the store's terms, and the parts of a query that all lists share.
//!
//! A list costs a fixed number of statements: one count, one page, and one for each kind of related object.

use std::collections::BTreeMap;

/// A list request: page, order and filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// From 1.
    pub page: u32,
    /// From 1 to 5,000.
    pub per_page: u32,
    /// The column, and true for descending.
    pub order: Option<(String, bool)>,
    /// `created_ats`
    pub created: Times,
    /// `updated_ats`
    pub updated: Times,
    /// `label_selector`: all must hold.
    pub labels: Vec<Requirement>,
    /// The list's own filters and `guids`: name to alternatives. A filter that is present but empty has one empty value.
    pub filters: BTreeMap<String, Vec<String>>,
    /// `include`
    pub includes: Vec<String>,
    /// `fields[path]` to keys.
    pub fields: BTreeMap<String, Vec<String>>,
}

impl List {
    /// The alternatives of a filter, if it is given.
    pub fn values(&self, filter: &str) -> Option<Vec<String>> {
        self.filters.get(filter).cloned()
    }
    /// The same in lower case, for names that compare without case.
    pub fn keys(&self, filter: &str) -> Option<Vec<String>> {
        self.filters.get(filter).map(|values| values.iter().map(|v| key(v)).collect())
    }
    /// The first value of a filter.
    pub fn first(&self, filter: &str) -> Option<&str> {
        self.filters.get(filter).and_then(|values| values.first()).map(String::as_str)
    }
    /// True when this is to be included.
    pub fn includes(&self, what: &str) -> bool {
        self.includes.iter().any(|i| i == what)
    }
    /// Column and direction.
    pub fn order(&self) -> (&str, bool) {
        self.order.as_ref().map_or(("", false), |(column, descending)| (column, *descending))
    }
    /// Rows before the page.
    pub fn offset(&self) -> i64 {
        i64::from(self.page.saturating_sub(1)) * i64::from(self.per_page)
    }
}

/// The form in which names are compared where case does not count.
pub fn key(name: &str) -> String {
    name.to_lowercase()
}

/// A filter on a moment, in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Any of these seconds.
    pub any_of: Option<Vec<i64>>,
    /// From here on (microseconds).
    pub from: Option<i64>,
    /// Before here (microseconds).
    pub before: Option<i64>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The key is there.
    Exists(String),
    /// The key is not there.
    Missing(String),
    /// The key has one of these values.
    In(String, Vec<String>),
    /// The key has none of these values, or is not there.
    NotIn(String, Vec<String>),
}

/// A page of rows, and how many there are on all pages.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    pub rows: Vec<T>,
    pub total: i64,
}

/// `filter_times!(query, table, list)`: `created_ats` and `updated_ats`. With `created_only`, rows never change.
macro_rules! filter_times {
    ($query:ident, $table:ident, $list:expr) => {
        $crate::store::query::filter_times!(@ $query, $table::created_at, $list.created);
        $crate::store::query::filter_times!(@ $query, $table::updated_at, $list.updated);
    };
    ($query:ident, $table:ident, $list:expr, created_only) => {
        $crate::store::query::filter_times!(@ $query, $table::created_at, $list.created);
        $crate::store::query::filter_times!(@ $query, $table::created_at, $list.updated);
    };
    (@ $query:ident, $column:expr, $times:expr) => {
        if let Some(seconds) = $times.any_of.clone() {
            $query = $query.filter(($column / 1_000_000).eq_any(seconds));
        }
        if let Some(from) = $times.from {
            $query = $query.filter($column.ge(from));
        }
        if let Some(before) = $times.before {
            $query = $query.filter($column.lt(before));
        }
    };
}
pub(crate) use filter_times;

/// `filter_common!(query, table, list)`: `guids`, `created_ats`, `updated_ats`; with a fourth argument, the kind under which
/// the resource's labels are kept, also `label_selector`.
macro_rules! filter_common {
    ($query:ident, $table:ident, $list:expr) => {
        $crate::store::query::filter_times!($query, $table, $list);
        if let Some(guids) = $list.values("guids") {
            $query = $query.filter($table::guid.eq_any(guids));
        }
    };
    ($query:ident, $table:ident, $list:expr, $kind:expr) => {
        $crate::store::query::filter_common!($query, $table, $list);
        for requirement in &$list.labels {
            use $crate::store::{query::Requirement, schema::labels};
            let of_kind = labels::table.select(labels::resource_guid).filter(labels::kind.eq($kind));
            $query = match requirement.clone() {
                Requirement::Exists(key) => $query.filter($table::guid.eq_any(of_kind.filter(labels::key.eq(key)))),
                Requirement::Missing(key) => $query.filter($table::guid.ne_all(of_kind.filter(labels::key.eq(key)))),
                Requirement::In(key, values) => {
                    let having = of_kind.filter(labels::key.eq(key)).filter(labels::value.eq_any(values));
                    $query.filter($table::guid.eq_any(having))
                }
                Requirement::NotIn(key, values) => {
                    let having = of_kind.filter(labels::key.eq(key)).filter(labels::value.eq_any(values));
                    $query.filter($table::guid.ne_all(having))
                }
            };
        }
    };
}
pub(crate) use filter_common;

/// `order_and_page!(query, table, list, "updated_at" => column, "name" => column, ...)`: creation order unless asked for
/// otherwise; ties are broken by guid, so that pages are stable.
macro_rules! order_and_page {
    ($query:ident, $table:ident, $list:expr $(, $name:literal => $column:expr)*) => {
        $query = match $list.order() {
            $(($name, false) => $query.order($column.asc()),
            ($name, true) => $query.order($column.desc()),)*
            (_, false) => $query.order($table::created_at.asc()),
            (_, true) => $query.order($table::created_at.desc()),
        };
        $query = $query.then_order_by($table::guid.asc()).limit(i64::from($list.per_page)).offset($list.offset());
    };
}
pub(crate) use order_and_page;

/// `insert_all!(conn, table, rows)`: adds a slice of rows in few statements. Their type must say
/// `treat_none_as_default_value = false`; batches are written for each back end by itself.
macro_rules! insert_all {
    ($conn:expr, $table:ident, $rows:expr) => {{
        for some in $rows.chunks(500) {
            let insert = diesel::insert_into($table::table).values(some);
            match $conn {
                $crate::store::Conn::Sqlite(conn) => insert.execute(conn)?,
                $crate::store::Conn::Postgres(conn) => insert.execute(conn)?,
            };
        }
        Ok(())
    }};
}
pub(crate) use insert_all;
