-- Text search: dictionaries and configurations of our own, used by an index, a generated column and rows that name them.
-- @globals
CREATE ROLE fam_ts_owner;

-- @setup
CREATE SCHEMA ts; CREATE TEXT SEARCH DICTIONARY ts."simple d" (TEMPLATE = pg_catalog.simple, STOPWORDS = english, ACCEPT = false); CREATE TEXT SEARCH DICTIONARY ts.snow (TEMPLATE = snowball, LANGUAGE = german);

CREATE TEXT SEARCH CONFIGURATION ts.mine (COPY = pg_catalog.english); ALTER TEXT SEARCH CONFIGURATION ts.mine ALTER MAPPING FOR asciiword, word WITH ts."simple d", ts.snow; ALTER TEXT SEARCH CONFIGURATION ts.mine DROP MAPPING FOR email; CREATE TEXT SEARCH CONFIGURATION ts.bare (PARSER = "default"); ALTER TEXT SEARCH CONFIGURATION ts.mine OWNER TO fam_ts_owner; COMMENT ON TEXT SEARCH CONFIGURATION ts.mine IS 'mine'; COMMENT ON TEXT SEARCH DICTIONARY ts.snow IS 'snow';
CREATE TABLE docs (id int, body text, v tsvector GENERATED ALWAYS AS (to_tsvector('ts.mine', body)) STORED, q tsquery); INSERT INTO docs (id, body, q) VALUES (1, 'Die Häuser und the houses', 'haus & !baum'), (2, 'Bäume a@b.example', '''a b'' <-> c:*A'); CREATE INDEX ON docs USING gin (v); CREATE INDEX ON docs USING gin (to_tsvector('ts.mine'::regconfig, body)); CREATE TABLE refers (c regconfig, d regdictionary); INSERT INTO refers VALUES ('ts.mine', 'ts."simple d"');

-- @check a search
SELECT id, v, q FROM docs WHERE v @@ to_tsquery('ts.mine', 'houses')

-- @check rows that name them
SELECT c, d FROM refers
-- @gives
-- ts.mine | ts."simple d"
