-- Materialized views on materialized views, one not filled, one with a unique index, owned by others.
-- @globals
CREATE ROLE fam_mv_owner; CREATE ROLE fam_mv_reader;

-- @setup
CREATE SCHEMA z; CREATE SCHEMA a; GRANT ALL ON SCHEMA a, z TO fam_mv_owner;

CREATE TABLE z.base (id int PRIMARY KEY, g text); INSERT INTO z.base SELECT i, 'g' || i % 5 FROM generate_series(1, 100) i;
ALTER TABLE z.base OWNER TO fam_mv_owner;

CREATE MATERIALIZED VIEW z.one AS SELECT g, count(*) AS n, sum(id) AS s FROM z.base GROUP BY g;
CREATE UNIQUE INDEX ON z.one (g);
CREATE MATERIALIZED VIEW a.two AS SELECT sum(n) AS n, max(s) AS s FROM z.one;
CREATE VIEW z.between AS SELECT * FROM a.two;
CREATE MATERIALIZED VIEW a.three AS SELECT n + s AS x FROM z.between WITH DATA;
CREATE MATERIALIZED VIEW a.empty AS SELECT 1 AS x WITH NO DATA;
CREATE MATERIALIZED VIEW a.on_empty AS SELECT id FROM z.base WITH NO DATA;
ALTER MATERIALIZED VIEW z.one OWNER TO fam_mv_owner; ALTER MATERIALIZED VIEW a.two OWNER TO fam_mv_owner; GRANT SELECT ON a.three TO fam_mv_reader;
COMMENT ON MATERIALIZED VIEW a.three IS 'on a view on a view'; ALTER MATERIALIZED VIEW a.three ALTER x SET STATISTICS 7;

-- @check contents
SELECT (SELECT n FROM a.two), (SELECT x FROM a.three), (SELECT s FROM z.one WHERE g = 'g0')
-- @gives
-- 100 | 1150 | 1050

-- @check which are filled
SELECT oid::regclass::text, relispopulated, relowner::regrole::text FROM pg_class WHERE relkind = 'm' ORDER BY 1
-- @gives
-- a.empty | f | postgres
-- a.on_empty | f | postgres
-- a.three | t | postgres
-- a.two | t | fam_mv_owner
-- z.one | t | fam_mv_owner

-- @check refreshing works beside readers
REFRESH MATERIALIZED VIEW CONCURRENTLY z.one; SELECT count(*) FROM z.one
-- @gives
-- 5

-- @check one that was never filled says so
SELECT * FROM a.empty
-- @fails 55000
