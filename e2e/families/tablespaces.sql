-- Tablespaces of tables, indexes, partitions and the database itself.
-- @globals
COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir -p ":FOLDER/one" ":FOLDER/two words"';

CREATE TABLESPACE fam_space LOCATION ':FOLDER/one';

CREATE TABLESPACE "fam ""space" LOCATION ':FOLDER/two words';

CREATE ROLE fam_space_user; GRANT CREATE ON TABLESPACE fam_space TO fam_space_user;

-- @database TABLESPACE "fam ""space"
-- @setup
CREATE TABLE a (id int PRIMARY KEY USING INDEX TABLESPACE fam_space, v text) TABLESPACE fam_space; INSERT INTO a VALUES (1, 'x'); CREATE INDEX ai ON a (v) TABLESPACE pg_default; CREATE TABLE of_database (n int); INSERT INTO of_database VALUES (1); CREATE TABLE standard (n int) TABLESPACE pg_default; CREATE INDEX si ON standard (n);

CREATE TABLE p (k int) PARTITION BY LIST (k) TABLESPACE fam_space; CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2) TABLESPACE pg_default; INSERT INTO p VALUES (1), (2); CREATE MATERIALIZED VIEW mv TABLESPACE fam_space AS SELECT count(*) AS n FROM a; CREATE UNIQUE INDEX pk ON p (k) TABLESPACE fam_space;

-- @check where each is
SELECT relname, spcname FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = reltablespace WHERE relnamespace = 'public'::regnamespace ORDER BY 1

-- @check where the database is
SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database()
-- @gives
-- fam "space
