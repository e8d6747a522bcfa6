-- Schema public renamed, and another of that name made by somebody else.
-- @globals
CREATE ROLE fam_pub_owner;

-- @setup
CREATE TABLE t (n int); INSERT INTO t VALUES (1); ALTER SCHEMA public RENAME TO old_public;

CREATE SCHEMA public AUTHORIZATION fam_pub_owner; CREATE TABLE public.t (n int); INSERT INTO public.t VALUES (2);

-- @check both are there
SELECT (SELECT n FROM old_public.t), (SELECT n FROM public.t), (SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public'), has_schema_privilege('fam_pub_owner', 'public', 'CREATE'), (SELECT count(*) FROM pg_namespace n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a WHERE nspname = 'public' AND grantee = 0)
-- @gives
-- 1 | 2 | fam_pub_owner | t | 0
