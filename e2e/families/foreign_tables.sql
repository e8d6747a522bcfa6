-- Foreign data wrappers, servers, user mappings with secrets, foreign tables, also as partition and child.
-- @problem statistics: could not be gathered of 2 of 2 tables
-- @globals
CREATE ROLE fam_fdw_user; CREATE ROLE "fam fdw's";

-- @setup
CREATE EXTENSION postgres_fdw;

CREATE FOREIGN DATA WRAPPER dummy OPTIONS (mode 'x''y'); CREATE SERVER plain FOREIGN DATA WRAPPER dummy; CREATE SERVER "ser""ver" TYPE 't' VERSION 'v' FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/no where', dbname 'x''y');
CREATE USER MAPPING FOR fam_fdw_user SERVER "ser""ver" OPTIONS (user 'u', password 'p''w\'); CREATE USER MAPPING FOR PUBLIC SERVER "ser""ver" OPTIONS (user 'all'); CREATE USER MAPPING FOR "fam fdw's" SERVER plain OPTIONS (a 'b');
CREATE FOREIGN TABLE ft (a int OPTIONS (column_name 'x "y"') NOT NULL, b text DEFAULT 'd', CHECK (a > 0)) SERVER "ser""ver" OPTIONS (schema_name 's', table_name 't''t');
CREATE TABLE par (a int, b text); CREATE FOREIGN TABLE child (c int) INHERITS (par) SERVER plain; INSERT INTO par VALUES (1, 'x');
CREATE TABLE pt (k int, v text) PARTITION BY LIST (k); CREATE TABLE pt_1 PARTITION OF pt FOR VALUES IN (1); CREATE FOREIGN TABLE pt_2 PARTITION OF pt FOR VALUES IN (2) SERVER "ser""ver"; INSERT INTO pt_1 VALUES (1, 'here');
GRANT USAGE ON FOREIGN SERVER plain TO fam_fdw_user; GRANT USAGE ON FOREIGN DATA WRAPPER dummy TO fam_fdw_user; GRANT SELECT ON ft TO fam_fdw_user; COMMENT ON FOREIGN TABLE ft IS 'far away'; COMMENT ON SERVER plain IS 'plain';

-- @check options of user mappings, which a dump without rights loses
SELECT srvname, usename, (SELECT string_agg(o, ';' ORDER BY o) FROM unnest(umoptions) o) FROM pg_user_mappings ORDER BY 1, 2
-- @gives
-- plain | fam fdw's | a=b
-- ser"ver | fam_fdw_user | password=p'w\;user=u
-- ser"ver | public | user=all

-- @check local rows beside foreign ones
SELECT (SELECT count(*) FROM ONLY par), (SELECT v FROM pt_1), (SELECT array_agg(relname::text ORDER BY relname) FROM pg_class WHERE relkind = 'f')
-- @gives
-- 1 | here | {child,ft,pt_2}
