//! Users, groups, clients and tokens
