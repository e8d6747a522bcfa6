-- A database whose users dropped what every new one has: schema public and plpgsql.

DROP SCHEMA public; DROP EXTENSION plpgsql;

CREATE SCHEMA own; CREATE TABLE own.t (id int PRIMARY KEY); INSERT INTO own.t VALUES (1);

-- @check they are gone
SELECT count(*) FROM pg_namespace WHERE nspname = 'public' UNION ALL SELECT count(*) FROM pg_language WHERE lanname = 'plpgsql' UNION ALL SELECT count(*) FROM own.t
-- @gives
-- 0
-- 0
-- 1
