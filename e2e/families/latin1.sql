-- A database in LATIN1, with names and rows beyond ASCII.
-- @database ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'

SET client_encoding = 'UTF8';

CREATE TABLE "tä" ("ö" text, c "char"); INSERT INTO "tä" VALUES ('grüße £', 'x'), ('', ''); CREATE SCHEMA "é"; CREATE TYPE "é"."ü" AS ENUM ('ñ'); CREATE TABLE "é".u (e "é"."ü" DEFAULT 'ñ'); INSERT INTO "é".u DEFAULT VALUES; COMMENT ON TABLE "tä" IS 'größe'; CREATE VIEW "é"."à" AS SELECT "ö" AS "ç", 'ÿ'::text AS y FROM "tä"; CREATE FUNCTION "ø"() RETURNS text LANGUAGE sql AS 'SELECT ''þ''::text'; CREATE INDEX "ß" ON "tä" (("ö" || 'ä')); CREATE SEQUENCE "ý"; SELECT nextval('"ý"');

-- @check bytes
SET client_encoding = 'UTF8';
SELECT encode("ö"::bytea, 'hex'), encode((SELECT e::text::bytea FROM "é".u), 'hex'), encode("ø"()::bytea, 'hex') FROM "tä" WHERE c = 'x'
-- @gives
-- 6772fcdf6520a3 | f1 | fe
