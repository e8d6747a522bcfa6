-- Rows wider than the largest chunk, of every kind of value, and values that are hard to write as text.

CREATE TABLE w (id int PRIMARY KEY, t text, b bytea, j jsonb); ALTER TABLE w ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL; INSERT INTO w SELECT g, repeat(md5(g::text), g * 80000), decode(repeat(md5((g + 1)::text), g * 50000), 'hex'), NULL FROM generate_series(0, 4) g; INSERT INTO w VALUES (10, repeat(E'\\\n\t', 1500000), NULL, NULL), (11, NULL, NULL, jsonb_build_object('k', repeat('é', 1000000), 'n', ARRAY[1, NULL]));
CREATE TABLE hard (id int, f4 float4, f8 float8, n numeric, d date, ts timestamp, tz timestamptz, i interval, tt timetz, m money, c "char", bi bit(5), vb varbit, x xml, js json, u uuid, ip inet, ci cidr, mac macaddr, mac8 macaddr8, pt point, po polygon, l pg_lsn, tx text, bp char(10), na name, oi oid, xi xid);
INSERT INTO hard VALUES (1, 'NaN', '-Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '-178000000 years 7 days 1.000001 sec', '23:59:59.999999-15:59', -0.01, '', '10101', '', '<a>&amp;</a>', '{"a":1, "a":2}', '00000000-0000-0000-0000-000000000000', '::1/128', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '(1e300,-0)', '((0,0),(1,1),(1,0))', 'FFFFFFFF/FFFFFFFF', '', 'pad', 'name', 4294967295, '4294967295'), (2, '1e-45', '5e-324', '1e-1000', '4713-01-01 BC', '4713-01-01 00:00 BC', '294276-12-31 23:59:59.999999+00', '0.000001 sec', '00:00+00', 92233720368547758.07, 'a', NULL, '1', 'just text', '[]', NULL, '1.2.3.4/24', NULL, NULL, NULL, NULL, NULL, '0/0', E'\\.', '          ', '', 0, '0'), (3, 0.1, 0.1, 12345678901234567890.12345678901234567890, '0001-01-01 BC', '2024-02-29 23:59:59.5', '2024-03-31 02:30:00+01', '1 mon -1 day', NULL, 0, E'\\', NULL, NULL, NULL, '"\u0000"', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, E'\\N', NULL, NULL, NULL, NULL);
ALTER DATABASE :DATABASE SET DateStyle = 'SQL, DMY'; ALTER DATABASE :DATABASE SET TimeZone = 'Asia/Kolkata'; ALTER DATABASE :DATABASE SET IntervalStyle = sql_standard; ALTER DATABASE :DATABASE SET bytea_output = 'escape'; ALTER DATABASE :DATABASE SET extra_float_digits = -5;

-- @check lengths
SELECT id, length(t), length(b), md5(t), md5(b), octet_length(j::text) FROM w ORDER BY id

-- @check values that bend
SELECT f8 = '5e-324', n = '1e-1000', m::numeric, tz = '294276-12-31 23:59:59.999999+00', l = '0/0', tx = E'\\.' FROM hard WHERE id = 2
-- @gives
-- t | t | 92233720368547758.07 | t | t | t
