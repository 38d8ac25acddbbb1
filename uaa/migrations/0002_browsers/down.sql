DROP TABLE approvals;
DROP TABLE passcodes;
DROP TABLE codes;
DROP TABLE sessions;
