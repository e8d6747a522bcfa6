-- A database whose own locale is ICU's.
-- @since 15
-- @database ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true' LC_COLLATE 'C' LC_CTYPE 'C'

CREATE TABLE t (k text PRIMARY KEY) PARTITION BY RANGE (k); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('a50'); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM ('a50') TO (MAXVALUE); INSERT INTO t VALUES ('a9'), ('a10'), ('a100'), ('ä'), ('z');

-- @check order
SELECT string_agg(k, ',' ORDER BY k), (SELECT count(*) FROM t1) FROM t
-- @gives
-- ä,a9,a10,a100,z | 3

-- @check the locale
SELECT j ->> 'datlocprovider', regexp_replace(coalesce(j ->> 'daticulocale', j ->> 'datlocale'), '-true$', ''), j ->> 'datcollate' FROM pg_database d, to_jsonb(d) j WHERE datname = current_database()
