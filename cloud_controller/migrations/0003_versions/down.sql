ALTER TABLE builds DROP COLUMN skip_detect;
ALTER TABLE builds DROP COLUMN env;
DROP TABLE versions;
