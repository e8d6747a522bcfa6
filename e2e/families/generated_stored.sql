-- Generated columns that are stored, one beside a dropped column, one all alone.

CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';

CREATE TABLE g (a int, dropped text, b int GENERATED ALWAYS AS (a * 2) STORED, c text, d text GENERATED ALWAYS AS (upper(c)) STORED, e int GENERATED ALWAYS AS (public.twice(a)) STORED);
ALTER TABLE g DROP COLUMN dropped;
INSERT INTO g (a, c) SELECT g, 'c' || g FROM generate_series(1, 50) g; INSERT INTO g DEFAULT VALUES;
CREATE INDEX ON g (b); CREATE UNIQUE INDEX ON g (e);

CREATE TABLE only_generated (b int GENERATED ALWAYS AS (7) STORED); INSERT INTO only_generated DEFAULT VALUES; INSERT INTO only_generated DEFAULT VALUES;

CREATE TABLE parts (k int, v int GENERATED ALWAYS AS (k + 1) STORED) PARTITION BY LIST (k); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1, 2); INSERT INTO parts VALUES (1), (2);

-- @check they are computed
SELECT count(*), sum(b), sum(e), max(d), (SELECT sum(b) FROM only_generated), (SELECT sum(v) FROM parts) FROM g
-- @gives
-- 51 | 2550 | 2550 | C9 | 14 | 5

-- @check 14+ they cannot be written
INSERT INTO g (a, b) VALUES (1, 1)
-- @fails 428C9
