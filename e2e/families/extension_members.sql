-- An extension that owns a schema; tables of others in it; members with changed rights, an owner's table that uses its types.
-- @problem tvowns.member: without rows
-- @differs tvowns.member its rows are not registered
-- @globals
CREATE ROLE fam_member_reader;

-- @setup
CREATE EXTENSION tvowns;

CREATE TABLE tvowns.mine (id int PRIMARY KEY, m tvowns.mood, n int DEFAULT tvowns.f(1)); INSERT INTO tvowns.mine VALUES (1, 'bad', 5), (2, 'good', DEFAULT); CREATE INDEX ON tvowns.mine (tvowns.f(id)); CREATE VIEW tvowns.my_view AS SELECT * FROM tvowns.v; CREATE TABLE outside (LIKE tvowns.mine); INSERT INTO outside VALUES (7, 'bad', 7);
INSERT INTO tvowns.member VALUES (2, 'not registered'); GRANT SELECT ON tvowns.member TO fam_member_reader; REVOKE EXECUTE ON FUNCTION tvowns.f(int) FROM PUBLIC; GRANT USAGE ON SCHEMA tvowns TO fam_member_reader;
CREATE TABLE given (n int); INSERT INTO given VALUES (1); ALTER EXTENSION tvowns ADD TABLE given; ALTER EXTENSION tvowns DROP TABLE given;

-- @check tables in its schema that are not its own
SELECT id, m, n FROM tvowns.mine UNION ALL SELECT id, m, n FROM outside ORDER BY 1
-- @gives
-- 1 | bad | 5
-- 2 | good | 2
-- 7 | bad | 7

-- @check rights on members
SELECT has_table_privilege('fam_member_reader', 'tvowns.member', 'SELECT'), has_function_privilege('fam_member_reader', 'tvowns.f(int)', 'EXECUTE'), (SELECT count(*) FROM tvowns.member WHERE id = 1), (SELECT n FROM given)
-- @gives
-- t | f | 1 | 1
