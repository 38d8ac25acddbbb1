DROP TABLE login_failures;
DROP TABLE tokens;
DROP TABLE clients;
DROP TABLE group_members;
DROP TABLE groups;
DROP TABLE users;
