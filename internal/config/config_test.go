package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tuskvault/tuskvault/internal/config"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// sample is a program's configuration.
type sample struct {
	StateDir string         `koanf:"state_dir"`
	Workers  int            `koanf:"workers"`
	Fast     bool           `koanf:"fast"`
	Patience time.Duration  `koanf:"patience"`
	Spool    config.Size    `koanf:"spool"`
	Allow    []string       `koanf:"allow"`
	Token    config.Secret  `koanf:"token"`
	Join     config.OneTime `koanf:"join"`
	Log      logging        `koanf:"log"`
	Servers  []server       `koanf:"servers"`
}

type logging struct {
	Level string `koanf:"level"`
	File  string `koanf:"file"`
}

type server struct {
	Name     string        `koanf:"name"`
	Port     int           `koanf:"port"`
	Password config.Secret `koanf:"password"`
}

func defaults() *sample {
	return &sample{Workers: 2, Patience: time.Minute, Spool: 64 << 20, Allow: []string{"backup"}, Log: logging{Level: "info"}}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsWinOverEnvironmentOverDotEnvOverFileOverDefaults(t *testing.T) {
	file := write(t, "c.yaml", "workers: 3\nstate_dir: /file\nlog:\n  level: warn\n  file: /file.log\nfast: true\nservers:\n- {name: a, port: 1}\n")
	dot := write(t, ".env", "TUSKVAULT_WORKERS=4\nTUSKVAULT_STATE_DIR=/dot\nTUSKVAULT_LOG_LEVEL=error\n")
	c := defaults()
	r, err := config.Load(c, config.Source{File: file, Named: true, DotEnv: dot,
		Environ: []string{"TUSKVAULT_WORKERS=5", "TUSKVAULT_STATE_DIR=/env", "TUSKVAULT_ALLOW=backup, drill", "HOME=/x"},
		Flags:   []config.Flag{{Key: "workers", Name: "--workers", Value: "6"}}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Workers != 6 || c.StateDir != "/env" || c.Log.Level != "error" || c.Log.File != "/file.log" || !c.Fast || c.Patience != time.Minute ||
		len(c.Servers) != 1 || c.Servers[0].Name != "a" {
		t.Errorf("%+v", c)
	}
	if diff := cmp.Diff([]string{"backup", "drill"}, c.Allow); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{"workers": "flag --workers", "state_dir": "environment TUSKVAULT_STATE_DIR",
		"log.level": dot + " TUSKVAULT_LOG_LEVEL", "log.file": file + " line 5", "patience": "default"} {
		if got := r.Origin(key); got != want {
			t.Errorf("origin of %s: %q, want %q", key, got, want)
		}
	}
}

func TestAllProblemsAreToldAtOnceWithTheirPlace(t *testing.T) {
	file := write(t, "c.yaml", "worker: 3\npatience: soon\nspool: 12Q\nlog:\n  levle: info\n  file: [a]\nservers:\n- {name: a, prot: 1, port: x}\nfast: maybe\ntoken: hunter2\n")
	_, err := config.Load(defaults(), config.Source{File: file, Named: true, Environ: []string{"TUSKVAULT_WORKERS=many"}})
	if !errors.Is(err, errs.Invalid) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{`line 1: unknown key "worker" (did you mean "workers"?)`, `patience (` + file + ` line 2): "soon" is not a duration`,
		`spool (` + file + ` line 3): "12Q" is not a size`, `line 5: unknown key "log.levle" (did you mean "level"?)`, `log.file (` + file + ` line 6): must be one value`,
		`entry 1: unknown key "prot" (did you mean "port"?)`, `port: "x" is not a whole number`, `"maybe" is neither true nor false`,
		`workers (environment TUSKVAULT_WORKERS): "many" is not a whole number`, "a secret is given by reference"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a secret:\n%v", err)
	}
}

func TestAFileThatIsNoConfigurationIsRefused(t *testing.T) {
	for name, text := range map[string]string{"a list": "- a\n", "bad YAML": "a: [\n", "a key twice": "workers: 1\nworkers: 2\n", "a section as text": "log: loud\n"} {
		if _, err := config.Load(defaults(), config.Source{File: write(t, "c.yaml", text), Named: true}); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{"nothing": "", "a comment": "# nothing\n", "an empty section": "log:\n", "an empty value": "workers:\n"} {
		c := defaults()
		if _, err := config.Load(c, config.Source{File: write(t, "c.yaml", text), Named: true}); err != nil || c.Workers != 2 || c.Log.Level != "info" {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

func TestANamedFileMustExistAndADefaultOneNeedNot(t *testing.T) {
	if _, err := config.Load(defaults(), config.Source{File: "/no/such.yaml", Named: true}); !errors.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "/no/such.yaml") {
		t.Errorf("named: %v", err)
	}
	if _, err := config.Load(defaults(), config.Source{File: "/no/such.yaml", DotEnv: "/no/.env"}); err != nil {
		t.Errorf("default: %v", err)
	}
}

func TestABadDotEnvIsRefusedWithoutShowingIt(t *testing.T) {
	dot := write(t, ".env", "PASSWORD hunter2 \"\n")
	if _, err := config.Load(defaults(), config.Source{DotEnv: dot}); !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestAVariableThatIsNoKeyIsAWarning(t *testing.T) {
	r, err := config.Load(defaults(), config.Source{Environ: []string{"TUSKVAULT_WORKRES=9", "OTHER=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "TUSKVAULT_WORKRES") || !strings.Contains(r.Warnings[0], "TUSKVAULT_WORKERS") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestListsOfSectionsCanBeGivenInTheEnvironment(t *testing.T) {
	c := defaults()
	if _, err := config.Load(c, config.Source{Environ: []string{"TUSKVAULT_SERVERS=[{name: a, port: 5432}, {name: b}]"}}); err != nil {
		t.Fatal(err)
	}
	if len(c.Servers) != 2 || c.Servers[0].Port != 5432 || c.Servers[1].Name != "b" {
		t.Errorf("%+v", c.Servers)
	}
}

// valid is a configuration that checks itself.
type valid struct {
	Workers int `koanf:"workers"`
}

func (v *valid) Validate() error {
	if v.Workers > 10 {
		return fmt.Errorf("workers: %d: too many: %w", v.Workers, errs.Invalid)
	}
	return nil
}

func TestTheProgramsOwnChecksAreToldWithTheRest(t *testing.T) {
	_, err := config.Load(&valid{}, config.Source{File: write(t, "c.yaml", "workers: 11\nx: 1\n"), Named: true})
	if err == nil || !strings.Contains(err.Error(), "too many") || !strings.Contains(err.Error(), `unknown key "x"`) {
		t.Errorf("%v", err)
	}
}

func TestPrintedConfigurationReadsBackAndHidesSecrets(t *testing.T) {
	secret := write(t, "pw", "hunter2\n")
	c := defaults()
	r, err := config.Load(c, config.Source{
		File: write(t, "c.yaml", "token: file:"+secret+"\nservers:\n- {name: a, password: 'env:PW'}\nlog: {file: '12'}\n"), Named: true,
		Environ: []string{"TUSKVAULT_JOIN=tv1.hunter2", "PW=hunter2"}, Flags: []config.Flag{{Key: "patience", Name: "--patience", Value: "90m"}}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"workers: 2 # default", "patience: 1h30m # flag --patience", "spool: 64MiB # default", "level: info # default",
		"refers to file:" + secret, "[redacted]", "name: a", `file: "12"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("missing %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("shows a secret:\n%s", out.String())
	}
	plain := strings.NewReplacer("'[redacted]'", "env:X", `"[redacted]"`, "env:X", "[redacted]", "env:X").Replace(out.String())
	again := defaults()
	if _, err := config.Load(again, config.Source{File: write(t, "again.yaml", plain), Named: true}); err != nil {
		t.Fatalf("what was printed is refused: %v\n%s", err, plain)
	}
	if again.Patience != c.Patience || again.Spool != c.Spool || again.Log != c.Log || again.Servers[0].Name != "a" {
		t.Errorf("read back: %+v", again)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{"0": 0, "17": 17, "64MiB": 64 << 20, "64 MiB": 64 << 20, "1.5GiB": 3 << 29, "1GB": 1e9, "2kB": 2000, "1TiB": 1 << 40, "5B": 5} {
		if got, err := config.ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "MiB", "-1", "1XB", "1e40", "NaN", "0x10MiBB", "9999999999TiB"} {
		if got, err := config.ParseSize(bad); !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %d %v", bad, got, err)
		}
	}
	for _, s := range []config.Size{0, 1, 1023, 1 << 10, 64 << 20, 3 << 29, 1 << 40} {
		if back, err := config.ParseSize(s.String()); err != nil || back != s {
			t.Errorf("%d prints as %s, which reads as %d", s, s, back)
		}
	}
}

func TestSecretsAreReadFromWhereTheyReferTo(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "pg"), []byte("from systemd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := write(t, "pw", "from file\r\n")
	dot := write(t, ".env", "IN_DOT=from dotenv\nBOTH=dot\n")
	for reference, want := range map[string]string{"file:" + file: "from file", "cred:pg": "from systemd", "env:IN_ENV": "from env", "env:IN_DOT": "from dotenv", "env:BOTH": "env"} {
		c := defaults()
		if _, err := config.Load(c, config.Source{DotEnv: dot, Environ: []string{"TUSKVAULT_TOKEN=" + reference, "IN_ENV=from env", "BOTH=env"}}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Token.Value(); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", reference, got, err, want)
		}
	}
}

func TestSecretsThatCannotBeReadAreTold(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	open := write(t, "open", "x")
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	big := write(t, "big", strings.Repeat("x", 1<<17))
	for reference, want := range map[string]error{"env:TUSKVAULT_NO_SUCH": errs.NotFound, "file:/no/such": errs.NotFound, "cred:x": errs.NotFound,
		"file:" + open: errs.Denied, "file:" + big: errs.Invalid} {
		s, err := config.ParseSecret(reference)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Value(); !errors.Is(err, want) || !strings.Contains(err.Error(), reference) {
			t.Errorf("%s: %v", reference, err)
		}
	}
	for _, inline := range []string{"hunter2", "password:hunter2", "env:", "cred:../../etc/shadow"} {
		if _, err := config.ParseSecret(inline); !errors.Is(err, errs.Invalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", inline, err)
		}
	}
}

func TestSecretsNeverShow(t *testing.T) {
	s := config.InlineSecret("hunter2")
	one := config.OneTime{Secret: s}
	var out bytes.Buffer
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&out), zap.DebugLevel))
	holder := struct{ Password config.Secret }{s}
	log.Info("x", zap.Any("secret", s), zap.Stringer("s", s), zap.Reflect("r", holder), zap.Any("one", one), zap.Any("p", &s))
	b, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": one, "d": holder})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	fmt.Fprintf(&out, "%v %+v %#v %s %q %d %x %v %+v %#v", s, s, s, s, s, s, s, holder, &holder, one)
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e74657232") {
		t.Errorf("shown: %s", out.String())
	}
	if v, err := s.Value(); err != nil || v != "hunter2" {
		t.Errorf("%q %v", v, err)
	}
}

func TestKeysListsEveryKey(t *testing.T) {
	want := []string{"state_dir", "workers", "fast", "patience", "spool", "allow", "token", "join", "log.level", "log.file", "servers"}
	if diff := cmp.Diff(want, config.Keys(&sample{})); diff != "" {
		t.Error(diff)
	}
}
