-- Functions and procedures whose bodies are standard SQL and depend on what they use.
-- @since 14

CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');

CREATE FUNCTION one(x int) RETURNS text LANGUAGE sql STABLE RETURN (SELECT v FROM t WHERE id = x);
CREATE FUNCTION many() RETURNS SETOF t LANGUAGE sql BEGIN ATOMIC SELECT id, v FROM t ORDER BY id; END;
CREATE VIEW uses AS SELECT one(1) AS o; CREATE FUNCTION uses_view() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT o FROM uses; SELECT o || '!' FROM uses; END;
CREATE PROCEDURE add(n int, INOUT total int DEFAULT 0) LANGUAGE sql BEGIN ATOMIC INSERT INTO t VALUES (n, 'new'); SELECT count(*)::int FROM t; END;
CREATE TABLE uses_function (n int, v text DEFAULT one(2), CHECK (one(n) IS DISTINCT FROM 'zzz')); INSERT INTO uses_function (n) VALUES (1);
CREATE FUNCTION pk_dependent(int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM (SELECT id, v FROM t GROUP BY id) x WHERE x.id = $1; END;

-- @check results
SELECT one(2), (SELECT count(*) FROM many()), uses_view(), (SELECT v FROM uses_function), pk_dependent(1)
-- @gives
-- b | 2 | a! | b | 1

-- @check a procedure
CALL add(3)
-- @gives
-- 3

-- @check what they use cannot be dropped
DROP TABLE t
-- @fails 2BP01
