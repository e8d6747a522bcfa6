-- Multiranges, also of range types of our own.
-- @since 14

CREATE TYPE mine AS RANGE (SUBTYPE = numeric, MULTIRANGE_TYPE_NAME = "many mine"); CREATE TYPE plainrange AS RANGE (SUBTYPE = bigint);

CREATE TABLE t (id int PRIMARY KEY, m int4multirange, o "many mine", p plainmultirange[], d datemultirange DEFAULT '{[2024-01-01,2024-02-01)}'); INSERT INTO t VALUES (1, '{[1,3),[7,9)}', '{[0.1,0.2],(5,)}', '{"{[1,2]}","{}"}'), (2, '{}', NULL, NULL); CREATE INDEX ON t USING gist (m);

-- @check values
SELECT id, m, o, p, d FROM t ORDER BY id
-- @gives
-- 1 | {[1,3),[7,9)} | {[0.1,0.2],(5,)} | {"{[1,2]}","{}"} | {[2024-01-01,2024-02-01)}
-- 2 | {} | NULL | NULL | {[2024-01-01,2024-02-01)}
