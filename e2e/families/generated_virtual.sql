-- Generated columns that are virtual, beside stored ones; constraints not enforced, not valid, temporal.
-- @since 18

CREATE EXTENSION btree_gist;

CREATE TABLE v (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int GENERATED ALWAYS AS (a * 3) STORED, d int NOT NULL); INSERT INTO v (a, d) VALUES (1, 5), (2, 6);
CREATE TABLE only_virtual (b int GENERATED ALWAYS AS (7) VIRTUAL); INSERT INTO only_virtual DEFAULT VALUES;
ALTER TABLE v ADD CONSTRAINT later CHECK (a < 2) NOT ENFORCED; CREATE TABLE r (a int); INSERT INTO r VALUES (NULL); ALTER TABLE r ADD CONSTRAINT nn NOT NULL a NOT VALID; CREATE TABLE named (a int CONSTRAINT my_not_null NOT NULL NO INHERIT);
CREATE TABLE temporal (id int4range, p daterange, PRIMARY KEY (id, p WITHOUT OVERLAPS)); INSERT INTO temporal VALUES ('[1,2)', '[2026-01-01,2026-02-01)'); CREATE TABLE refers (id int4range, p daterange, FOREIGN KEY (id, PERIOD p) REFERENCES temporal (id, PERIOD p)); INSERT INTO refers VALUES ('[1,2)', '[2026-01-05,2026-01-10)');
CREATE TABLE not_enforced (id int4range, p daterange, CONSTRAINT fk FOREIGN KEY (id, PERIOD p) REFERENCES temporal (id, PERIOD p) NOT ENFORCED); INSERT INTO not_enforced VALUES ('[9,10)', '[2026-01-05,2026-01-10)');
CREATE TABLE parted (k int, g int GENERATED ALWAYS AS (k + 1) VIRTUAL) PARTITION BY LIST (k); CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); INSERT INTO parted VALUES (1);

-- @check values
SELECT a, b, c, (SELECT b FROM only_virtual), (SELECT g FROM parted), (SELECT count(*) FROM temporal) FROM v ORDER BY a
-- @gives
-- 1 | 2 | 3 | 7 | 2 | 1
-- 2 | 4 | 6 | 7 | 2 | 1

-- @check a constraint that is not valid keeps what is there and refuses what is new
INSERT INTO r VALUES (NULL)
-- @fails 23502

-- @check temporal keys
INSERT INTO temporal VALUES ('[1,2)', '[2026-01-15,2026-03-01)')
-- @fails 23P01
