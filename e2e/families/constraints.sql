-- CHECKs that call functions, also ones that read other tables or need a search path; NOT VALID; deferrable; circular keys; off the search path.

CREATE SCHEMA off_path; CREATE TABLE aaa_checked (n int); CREATE TABLE zzz_allowed (n int PRIMARY KEY); INSERT INTO zzz_allowed VALUES (1), (2); CREATE FUNCTION allowed(int) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT EXISTS (SELECT FROM public.zzz_allowed WHERE n = $1) $$; ALTER TABLE aaa_checked ADD CONSTRAINT reads_other CHECK (public.allowed(n)); INSERT INTO aaa_checked VALUES (1), (2);
CREATE FUNCTION off_path.pos(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 > 0; END'; CREATE TABLE off_path.t (id int PRIMARY KEY, n int CHECK (off_path.pos(n)), up int REFERENCES off_path.t DEFERRABLE INITIALLY DEFERRED, UNIQUE (n) DEFERRABLE); 

INSERT INTO off_path.t VALUES (1, 1, 2), (2, 2, 1);

CREATE INDEX ON off_path.t (off_path.pos(n)) WHERE off_path.pos(id);

CREATE TABLE x (id int PRIMARY KEY, y int); CREATE TABLE y (id int PRIMARY KEY, x int REFERENCES x ON DELETE CASCADE ON UPDATE SET NULL); INSERT INTO x VALUES (1, 1); INSERT INTO y VALUES (1, 1);

ALTER TABLE x ADD CONSTRAINT xy FOREIGN KEY (y) REFERENCES y MATCH FULL;
CREATE TABLE nv (n int, x int); INSERT INTO nv VALUES (-1, 999), (5, 1); ALTER TABLE nv ADD CONSTRAINT nv_check CHECK (n > 0) NOT VALID; ALTER TABLE nv ADD CONSTRAINT nv_fk FOREIGN KEY (x) REFERENCES x NOT VALID;
CREATE TABLE multi (a int, b int, c box, UNIQUE (a, b) INCLUDE (c), EXCLUDE USING gist (c WITH &&) WHERE (a > 0)); INSERT INTO multi VALUES (1, 2, '(1,1),(0,0)'), (1, NULL, '(5,5),(4,4)'), (-1, 3, '(1,1),(0,0)'); CREATE UNIQUE INDEX part ON multi (b) WHERE a < 0; CREATE TABLE expr_default (id int DEFAULT (1 + 1) * 3, t timestamptz DEFAULT '2024-01-01 00:00+00', u text DEFAULT upper('x') || current_database()); INSERT INTO expr_default VALUES (1, now(), 'x');

-- @setup 15+
CREATE TABLE nulls (n int, UNIQUE NULLS NOT DISTINCT (n)); INSERT INTO nulls VALUES (NULL); CREATE TABLE set_some (a int, b int, FOREIGN KEY (a, b) REFERENCES multi (a, b) ON DELETE SET NULL (a)); INSERT INTO set_some VALUES (1, 2);

-- @check rows that the constraints would not let in any more
SELECT n, x FROM nv ORDER BY n
-- @gives
-- -1 | 999
-- 5 | 1

-- @check which are valid, deferrable, deferred
SELECT conname, convalidated, condeferrable, condeferred FROM pg_constraint WHERE connamespace IN ('public'::regnamespace, 'off_path'::regnamespace) AND contype <> 'n' ORDER BY 1

-- @check the check that reads another table
INSERT INTO aaa_checked VALUES (3)
-- @fails 23514

-- @check the one not valid counts for new rows
INSERT INTO nv VALUES (-5, 1)
-- @fails 23514

-- @check the foreign key not valid too
INSERT INTO nv VALUES (5, 12345)
-- @fails 23503
