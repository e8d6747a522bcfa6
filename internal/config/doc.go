// Package config reads a program's configuration from layers: flags over
// environment (TUSKVAULT_<KEY>) over an .env file over one YAML file over the
// defaults in the program's own struct. It is strict: a key that nobody knows
// is an error that names it, its line and the key that was probably meant; all
// problems are told at once. Secrets are references and never values.
//
// A program's configuration is a struct whose fields have koanf tags:
//
//	type Config struct {
//		StateDir string        `koanf:"state_dir"`
//		Log      LogConfig     `koanf:"log"`       // keys log.level, log.file, …
//		Patience time.Duration `koanf:"patience"`  // "15m"
//		Spool    config.Size   `koanf:"spool"`     // "64MiB"
//		Token    config.Secret `koanf:"token"`     // "env:NAME", "file:PATH", "cred:NAME"
//	}
//
// The package also prepares the folders that programs keep their state in.
package config
