-- Names with quotes, spaces, newlines, backslashes, Unicode, keywords, dollar signs, and the longest.

-- @globals
CREATE ROLE "fam ""role\ 'x'";

-- @setup
CREATE SCHEMA "Sché ""ma\ x"; CREATE SCHEMA "select";

CREATE TABLE "Sché ""ma\ x"."ta
ble 'with' ""all"" 	of\it; -- $$" ("sel ect" int PRIMARY KEY, "a""b" text, "c
d" text DEFAULT E'x\'y', "é漢😀" text, "$1" text, "\" text CHECK ("\" <> '\'));
INSERT INTO "Sché ""ma\ x"."ta
ble 'with' ""all"" 	of\it; -- $$" VALUES (1, E'tab\tnew\nline\\ back \r\b\f\v', '\.', '\N', '', 'ok'), (2, NULL, DEFAULT, 'é漢😀', E'\u0001', NULL);

CREATE TABLE "select"."user" ("table" int, "from" text); INSERT INTO "select"."user" VALUES (1, 'x');
CREATE TABLE " " (" " int); INSERT INTO " " VALUES (3);
CREATE TABLE "UPPER" ("Mixed" int); INSERT INTO "UPPER" VALUES (4);
CREATE TABLE "123456789012345678901234567890123456789012345678901234567890123" (n int PRIMARY KEY); INSERT INTO "123456789012345678901234567890123456789012345678901234567890123" VALUES (5);
CREATE TABLE "%s %d {} ${x} `x`" (n int); INSERT INTO "%s %d {} ${x} `x`" VALUES (6);
CREATE TABLE "COPY t FROM stdin;" (n int); INSERT INTO "COPY t FROM stdin;" VALUES (7);
CREATE INDEX "in""dex
two" ON "UPPER" ("Mixed"); CREATE SEQUENCE "se'q
"; SELECT nextval(E'"se\'q\n"');
CREATE TYPE "ty""pe" AS ENUM ('it''s', 'a"b', E'c\nd', ''); CREATE TABLE typed (t "ty""pe"); INSERT INTO typed VALUES (E'c\nd'), ('');
CREATE FUNCTION "fu""nc; --" ("p ""q" int) RETURNS int LANGUAGE sql AS 'SELECT $1';
GRANT SELECT ON "UPPER" TO "fam ""role\ 'x'"; CREATE POLICY "po""licy" ON "UPPER" TO "fam ""role\ 'x'" USING ("Mixed" > 0);
COMMENT ON TABLE "UPPER" IS E'line one\nline ''two'' \\ ; $$ \u2028 end'; CREATE VIEW "vi
ew" AS SELECT "Mixed" AS "col ""umn" FROM "UPPER";
CREATE TRIGGER "tri""g" BEFORE UPDATE ON "UPPER" FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger('ar''g\', '');
CREATE RULE "ru""le" AS ON DELETE TO "UPPER" DO INSTEAD NOTHING;

-- @check every row
SELECT (SELECT "table" FROM "select"."user"), (SELECT " " FROM " "), (SELECT "col ""umn" FROM "vi
ew"), (SELECT n FROM "123456789012345678901234567890123456789012345678901234567890123"), (SELECT n FROM "%s %d {} ${x} `x`"), (SELECT n FROM "COPY t FROM stdin;"), nextval(E'"se\'q\n"')
-- @gives
-- 1 | 3 | 4 | 5 | 6 | 7 | 2

-- @check texts that look like COPY's own marks
SELECT md5(string_agg(concat_ws('|', "sel ect", "a""b", "c
d", "é漢😀", "$1", "\"), '#' ORDER BY "sel ect")), count(*) FROM "Sché ""ma\ x"."ta
ble 'with' ""all"" 	of\it; -- $$"

-- @check the trigger's arguments
SELECT encode(tgargs, 'escape') FROM pg_trigger WHERE tgname = 'tri"g'
