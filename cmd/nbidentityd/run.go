package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	systemd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/journal"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
	"github.com/nbidentityd/nbidentityd/internal/sidecar"
)

// errReload ends one life of the daemon for the next.
var errReload = errors.New("reload")

func runDaemon(ctx context.Context, p program, args []string) error {
	var path string
	var check bool
	err := p.flags("run", args, func(fs *flag.FlagSet) {
		fs.StringVar(&path, "settings", settings.DefaultPath, "settings `file`")
		fs.BoolVar(&check, "check", false, "say whether the settings and the metadata file are in order, and exit")
	})
	if err != nil {
		return err
	}
	set, err := settings.Load(path)
	if err != nil {
		return err
	}
	if check {
		return checkRun(p, set, path)
	}
	if err := keepMemoryPrivate(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)

	lines := journal.New(os.Stderr)
	defer func() { _ = lines.Sync() }() // a log that is full does not keep us from stopping well
	log, audit, err := newLoggers(set.LogLevel, lines)
	if err != nil {
		return err
	}
	log.Info("starting", zap.String("version", version), zap.String("settings", path))
	under, err := underSystemd()
	if err != nil {
		return err
	}
	var before *sidecar.Daemon
	for {
		d, err := live(ctx, p, set, under, before, path, hangup, log, audit)
		before = d
		if !errors.Is(err, errReload) {
			return finish(err, log)
		}
		if set, err = settings.Load(path); err != nil {
			return err // read a moment ago without an error
		}
		if log, audit, err = newLoggers(set.LogLevel, lines); err != nil {
			return err
		}
		log.Info("settings read again", zap.String("settings", path))
	}
}

// live runs one daemon until a signal ends it (nil), a hangup asks for the
// settings to be read again (errReload), or it breaks. Settings that do not
// read leave the running daemon as it is.
func live(ctx context.Context, p program, set settings.Settings, under service, before *sidecar.Daemon, path string, hangup <-chan os.Signal, log, audit *zap.Logger) (*sidecar.Daemon, error) {
	d, err := sidecar.New(sidecar.Config{
		Settings: set, Getenv: p.getenv, Notify: notifier(log), Version: version, Log: log, Audit: audit,
		Inherited: under.sockets, Watchdog: under.watchdog, Before: before,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
			}
			if _, err := settings.Load(path); err != nil {
				log.Error("settings not read again; the old ones stay in force", zap.Error(err))
				continue
			}
			cancel(errReload)
		}
	}()
	if err := d.Run(ctx); err != nil {
		return d, err
	}
	if errors.Is(context.Cause(ctx), errReload) {
		return d, errReload
	}
	return d, nil
}

// service is what systemd gave the process, if it started it.
type service struct {
	sockets  []*os.File
	watchdog time.Duration
}

func underSystemd() (service, error) {
	watchdog, err := systemd.SdWatchdogEnabled(true)
	if err != nil {
		return service{}, fmt.Errorf("reading systemd's watchdog time: %w", err)
	}
	return service{sockets: activation.Files(true), watchdog: watchdog}, nil
}

// finish says goodbye. Stepping aside is a success: systemd must take it for
// one, so it is told READY before.
func finish(err error, log *zap.Logger) error {
	notify := notifier(log)
	if reason, yes := blueprint.StepsAside(err); yes {
		log.Info("stepping aside", zap.String("reason", reason))
		notify("READY=1\nSTATUS=stepping aside: " + reason)
		return nil
	}
	notify("STOPPING=1")
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// notifier tells systemd, when systemd started us.
func notifier(log *zap.Logger) func(string) {
	return func(state string) {
		if _, err := systemd.SdNotify(false, state); err != nil {
			log.Warn("systemd not notified", zap.Error(err))
		}
		if state == "READY=1" {
			unmapStart()
		}
	}
}

// newLoggers write JSON lines, none dropped. Those of the audit, of which a busy
// notebook makes hundreds in a second, are written some at a time, and whatever the
// level: who got credentials is no question of how much somebody wants to read.
func newLoggers(level string, lines *journal.Writer) (log, audit *zap.Logger, err error) {
	at, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, nil, fmt.Errorf("log_level: %w", err)
	}
	form := zap.NewProductionEncoderConfig()
	form.TimeKey = "time"
	form.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	json := zapcore.NewJSONEncoder(form)
	log = zap.New(zapcore.NewCore(json, lines, at), zap.ErrorOutput(lines))
	return log, zap.New(lines.Later(json, min(at, zapcore.InfoLevel)), zap.ErrorOutput(lines)), nil
}

func checkRun(p program, set settings.Settings, path string) error {
	users, err := notebookuser.Find(set.Users)
	if err != nil {
		return err
	}
	if _, err := sidecar.New(sidecar.Config{Settings: set}); err != nil {
		return err
	}
	nb, err := identity.ReadFile(set.MetadataFile)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "settings %s: in order\n", path)
	for _, u := range users {
		fmt.Fprintf(p.stdout, "user %s: uid %d, home %s\n", u.Name, u.UID, u.Home)
	}
	fmt.Fprintf(p.stdout, "metadata %s: %s in %s, account %s\n", set.MetadataFile, nb.Surface, nb.Region, nb.Account)
	return nil
}
