CREATE TABLE tvowns.member (id int PRIMARY KEY, v text);
INSERT INTO tvowns.member VALUES (1, 'built in');
CREATE TYPE tvowns.mood AS ENUM ('good', 'bad');
CREATE FUNCTION tvowns.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE VIEW tvowns.v AS SELECT * FROM tvowns.member;
