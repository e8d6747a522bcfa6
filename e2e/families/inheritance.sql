-- Inheritance: columns in another order, several parents, defaults and constraints of children, NO INHERIT, typed tables.
-- @reordered public.chi

CREATE TABLE par (b text, a int DEFAULT 1, CONSTRAINT positive CHECK (a > 0), CONSTRAINT own CHECK (b <> 'x') NO INHERIT);
CREATE TABLE chi (c int, a int DEFAULT 2, b text); ALTER TABLE chi ADD CONSTRAINT positive CHECK (a > 0); ALTER TABLE chi INHERIT par;
CREATE TABLE grand (d int DEFAULT 4) INHERITS (chi); ALTER TABLE grand ALTER a SET DEFAULT 9; ALTER TABLE grand ADD CHECK (d > 0);
CREATE TABLE other (z int, b text NOT NULL); CREATE TABLE both_of (own int) INHERITS (par, other);
INSERT INTO par VALUES ('p', 1), (NULL, 7); INSERT INTO chi VALUES (3, 2, 'c'); INSERT INTO grand VALUES (5, 6, 'x', 8); INSERT INTO both_of VALUES ('b', 3, 30, 300);

ALTER TABLE par ADD COLUMN late int DEFAULT 11; ALTER TABLE chi ALTER late SET DEFAULT 12; ALTER TABLE par DROP COLUMN late; ALTER TABLE par ADD COLUMN e int; ALTER TABLE ONLY par ALTER e SET DEFAULT 0; ALTER TABLE grand ALTER e SET DEFAULT 5;

CREATE TABLE left_home (x int) INHERITS (par); INSERT INTO left_home (b, a, x) VALUES ('l', 1, 2); ALTER TABLE left_home NO INHERIT par;

CREATE TYPE tt AS (x int, y text); CREATE TABLE typed OF tt (x WITH OPTIONS DEFAULT 5, PRIMARY KEY (x)); INSERT INTO typed VALUES (1, 'a');

-- @check rows of parents without and with children
SELECT (SELECT count(*) FROM ONLY par), (SELECT count(*) FROM par), (SELECT count(*) FROM chi), (SELECT count(*) FROM other), (SELECT a FROM ONLY chi), (SELECT d FROM grand), (SELECT own FROM both_of), (SELECT x FROM left_home)
-- @gives
-- 2 | 5 | 2 | 1 | 2 | 8 | 300 | 2

-- @check defaults
INSERT INTO grand (b) VALUES ('new') RETURNING a, d, e

-- @check a constraint that is not inherited
INSERT INTO chi (b) VALUES ('x') RETURNING a
-- @gives
-- 2

-- @check one that is
INSERT INTO grand (a) VALUES (-1)
-- @fails 23514
