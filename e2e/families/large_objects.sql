-- Large objects: owners, privileges, comments, holes, pages that are not full, empty ones, a reference from a row.
-- @globals
CREATE ROLE fam_lo_owner; CREATE ROLE fam_lo_reader; CREATE ROLE "fam lo ""q";

-- @setup
SELECT lo_create(90001), lo_create(90002), lo_create(90003), lo_create(90004), lo_create(90005), lo_create(4294967295);

SELECT lo_put(90001, 0, 'hello'); SELECT lo_put(90002, 0, decode(repeat('ab', 500000), 'hex')); SELECT lo_put(90004, 3000000, 'after a hole'); SELECT lo_put(4294967295, 0, '\x00ff');

SELECT lo_put(90005, 0, decode(repeat('cd', 5000), 'hex')); SELECT lo_truncate(lo_open(90005, 131072), 4096);

SELECT lo_from_bytea(91000 + g, decode(md5(g::text), 'hex')) FROM generate_series(1, 500) g;

ALTER LARGE OBJECT 90001 OWNER TO fam_lo_owner; GRANT SELECT ON LARGE OBJECT 90001 TO fam_lo_reader; GRANT UPDATE ON LARGE OBJECT 90001 TO "fam lo ""q" WITH GRANT OPTION;
GRANT SELECT ON LARGE OBJECT 90002 TO PUBLIC; REVOKE ALL ON LARGE OBJECT 90003 FROM postgres; COMMENT ON LARGE OBJECT 90002 IS E'the ''second''\n\\';

CREATE TABLE refers (id int, lo oid); INSERT INTO refers VALUES (1, 90002), (2, 4294967295);

-- @check lengths, holes included
SELECT id, length(lo_get(lo)), md5(lo_get(lo)) FROM refers ORDER BY id

-- @check the hole reads as zeros, the truncated page ends where it ended
SELECT encode(lo_get(90004, 2999998, 20), 'hex'), length(lo_get(90004)), length(lo_get(90005)), length(lo_get(90003))
-- @gives
-- 00006166746572206120686f6c65 | 3000012 | 4096 | 0

-- @check owners, privileges, comments
SELECT m.oid, lomowner::regrole::text, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(lomacl) a), obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m WHERE m.oid < 91000 ORDER BY 1

-- @check a reader may read and no more
SET ROLE fam_lo_reader; SELECT lo_get(90001); SELECT lo_put(90001, 0, 'x')
-- @fails 42501
