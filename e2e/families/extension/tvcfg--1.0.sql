-- tvcfg_child refers to tvcfg_conf, which is made later; tvcfg_a and tvcfg_b refer
-- to each other; tvcfg_plain is not registered.
CREATE TABLE tvcfg_child (id int PRIMARY KEY, conf int);
CREATE TABLE tvcfg_conf (id int PRIMARY KEY, name text, v text, builtin bool DEFAULT true);
INSERT INTO tvcfg_conf VALUES (1, 'one', 'x', true);
ALTER TABLE tvcfg_child ADD FOREIGN KEY (conf) REFERENCES tvcfg_conf;
CREATE TABLE tvcfg_a (id int PRIMARY KEY, b int);
CREATE TABLE tvcfg_b (id int PRIMARY KEY, a int REFERENCES tvcfg_a);
ALTER TABLE tvcfg_a ADD FOREIGN KEY (b) REFERENCES tvcfg_b;
CREATE TABLE tvcfg_plain (i int);
CREATE TABLE tvcfg_log (id bigserial PRIMARY KEY, note text);
CREATE SEQUENCE tvcfg_seq;
SELECT pg_catalog.pg_extension_config_dump('tvcfg_conf', 'WHERE NOT builtin OR id > 100');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_child', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_a', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_b', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_log', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_log_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('tvcfg_seq', '');
