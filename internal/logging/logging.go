// Package logging builds the programs' loggers: zap, JSON (or text on a
// terminal), written to standard error or to a file that is rotated by size
// and age, with a level that can be changed while the program runs. It also
// names the keys that all packages use.
//
// Loggers are passed in, never global. Secrets have types that redact
// themselves, so nothing here filters.
package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/tuskvault/tuskvault/internal/errs"
)

// Options say where and how much to log.
type Options struct {
	// Level is "debug", "info", "warn" or "error"; empty means "info".
	Level string
	// Format is "json", "console" or "auto": console on a terminal, else JSON. Empty means "auto".
	Format string
	// File to write to; empty means Output.
	File string
	// MaxSizeMB is the size in MiB at which File is rotated; 0 means 100.
	MaxSizeMB int
	// MaxAge is how long rotated files are kept; 0 means for ever, within MaxFiles.
	MaxAge time.Duration
	// MaxFiles is how many rotated files are kept; 0 means 10.
	MaxFiles int
	// Output is where logs go without a File; nil means standard error.
	Output io.Writer
	// Terminal tells that Output is a terminal.
	Terminal bool
}

// Logging is a logger with its level and its file.
type Logging struct {
	// Log is the root logger. Packages get children of it by Named and With.
	Log *zap.Logger

	level zap.AtomicLevel
	file  *lumberjack.Logger

	mu sync.Mutex
	// configured is the level to come back to.
	configured zapcore.Level
}

// Defaults of rotation.
const (
	defaultMaxSizeMB = 100
	defaultMaxFiles  = 10
)

// New builds a logger. It opens nothing yet: a log file is made at the first
// line, but its folder must exist.
func New(o Options) (*Logging, error) {
	level, err := ParseLevel(o.Level)
	if err != nil {
		return nil, err
	}
	console := o.Format == "console" || (o.Format == "auto" || o.Format == "") && o.File == "" && o.Terminal
	if o.Format != "" && o.Format != "auto" && o.Format != "json" && o.Format != "console" {
		return nil, fmt.Errorf("log format %q: must be auto, json or console: %w", o.Format, errs.Invalid)
	}
	l := &Logging{level: zap.NewAtomicLevelAt(level), configured: level}
	sink, err := l.open(o)
	if err != nil {
		return nil, err
	}
	core := zapcore.NewCore(encoder(console), zapcore.Lock(sink), l.level)
	l.Log = zap.New(core, zap.ErrorOutput(zapcore.Lock(zapcore.AddSync(os.Stderr))))
	return l, nil
}

// open prepares the place that lines go to.
func (l *Logging) open(o Options) (zapcore.WriteSyncer, error) {
	if o.File == "" {
		if o.Output == nil {
			return zapcore.AddSync(os.Stderr), nil
		}
		return zapcore.AddSync(o.Output), nil
	}
	if info, err := os.Stat(filepath.Dir(o.File)); err != nil {
		return nil, fmt.Errorf("log file %s: %w", o.File, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("log file %s: %s is not a folder: %w", o.File, filepath.Dir(o.File), errs.Invalid)
	}
	l.file = &lumberjack.Logger{Filename: o.File, MaxSize: o.MaxSizeMB, MaxBackups: o.MaxFiles, Compress: true,
		MaxAge: int((o.MaxAge + 24*time.Hour - 1) / (24 * time.Hour))}
	if l.file.MaxSize == 0 {
		l.file.MaxSize = defaultMaxSizeMB
	}
	if l.file.MaxBackups == 0 {
		l.file.MaxBackups = defaultMaxFiles
	}
	return zapcore.AddSync(l.file), nil
}

// encoder makes lines.
func encoder(console bool) zapcore.Encoder {
	c := zapcore.EncoderConfig{TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "msg",
		LineEnding: zapcore.DefaultLineEnding, EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeDuration: zapcore.StringDurationEncoder}
	if console {
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		c.ConsoleSeparator = "  "
		return zapcore.NewConsoleEncoder(c)
	}
	return zapcore.NewJSONEncoder(c)
}

// ParseLevel reads a level's name; empty means info.
func ParseLevel(s string) (zapcore.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return zapcore.DebugLevel, nil
	case "", "info":
		return zapcore.InfoLevel, nil
	case "warn":
		return zapcore.WarnLevel, nil
	case "error":
		return zapcore.ErrorLevel, nil
	}
	return 0, fmt.Errorf("log level %q: must be debug, info, warn or error: %w", s, errs.Invalid)
}

// Level gives the level in use.
func (l *Logging) Level() string { return l.level.String() }

// SetLevel changes the level until the program ends, by name.
func (l *Logging) SetLevel(name string) error {
	level, err := ParseLevel(name)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.SetLevel(level)
	return nil
}

// More makes the log one step more verbose.
func (l *Logging) More() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.level.Level(); now > zapcore.DebugLevel {
		l.level.SetLevel(now - 1)
	}
}

// Back returns to the level of the configuration.
func (l *Logging) Back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.SetLevel(l.configured)
}

// Run changes the level on signals until ctx ends: SIGUSR1 makes it one step
// more verbose, SIGUSR2 brings back the configured level.
func (l *Logging) Run(ctx context.Context) error {
	signals := make(chan os.Signal, 8) // more than a person sends while one is handled
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-signals:
			l.handle(s)
		}
	}
}

// handle does what a signal asks for. The log says so at a level that is always shown.
func (l *Logging) handle(s os.Signal) {
	switch s {
	case syscall.SIGUSR1:
		l.More()
	case syscall.SIGUSR2:
		l.Back()
	}
	l.Log.Log(l.level.Level(), "log level changed", zap.String("to", l.Level()))
}

// Close flushes and closes the log file.
func (l *Logging) Close() error {
	err := l.Log.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTTY) {
		err = nil // terminals and pipes cannot be synced
	}
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}
