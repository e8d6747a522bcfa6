-- Sequences of every type, used and unused, ascending and descending, owned and free.

CREATE SEQUENCE s_small AS smallint; SELECT setval('s_small', 42, false);
CREATE SEQUENCE s_int AS integer INCREMENT 3; SELECT setval('s_int', 2147483644, true);
CREATE SEQUENCE s_big; SELECT setval('s_big', 9223372036854775806, true);
CREATE SEQUENCE s_unused START 17;
CREATE SEQUENCE s_down INCREMENT -1 MINVALUE -9223372036854775807 START -5; SELECT nextval('s_down'), nextval('s_down');
CREATE SEQUENCE s_cache CACHE 20; SELECT nextval('s_cache');
CREATE SEQUENCE s_cycle MAXVALUE 2 CYCLE; SELECT nextval('s_cycle') FROM generate_series(1, 2);
CREATE SEQUENCE "odd ""seq"; SELECT nextval('"odd ""seq"');

CREATE TABLE t (id serial PRIMARY KEY, big bigserial, v int); INSERT INTO t (v) SELECT generate_series(1, 12);
CREATE SEQUENCE owned OWNED BY t.v; SELECT setval('owned', 100, true);
ALTER TABLE t ALTER v SET DEFAULT nextval('owned');

CREATE SCHEMA apart; CREATE SEQUENCE apart.s_small; SELECT setval('apart.s_small', 5);

-- @setup 15+
CREATE UNLOGGED SEQUENCE s_unlogged; SELECT setval('s_unlogged', 9);

-- @check the next value of each
SELECT nextval('s_small'), nextval('s_int'), nextval('s_big'), nextval('s_unused'), nextval('s_down'), nextval('s_cache'), nextval('s_cycle'), nextval('"odd ""seq"'), nextval('apart.s_small'), nextval('owned')
-- @gives
-- 42 | 2147483647 | 9223372036854775807 | 17 | -7 | 21 | 1 | 2 | 6 | 101

-- @check 15+ of the unlogged one
SELECT nextval('s_unlogged')
-- @gives
-- 10

-- @check defaults use them
INSERT INTO t DEFAULT VALUES RETURNING id, big, v
-- @gives
-- 13 | 13 | 102

-- @check an exhausted one stays so
SELECT nextval('s_big')
-- @fails 2200H
