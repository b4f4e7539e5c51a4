package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"rubus/cmd/internal/ui"
	"rubus/config"
)

// Where things are unless said otherwise.
const (
	defaultRun     = "/run/rubus"
	defaultConfig  = "/etc/rubus/rubus.yaml"
	defaultDevices = "/etc/rubus/devices.yaml"
)

// globals is what every verb is given: the streams and the persistent flags.
type globals struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// IsTerminal says whether one of the streams is a terminal.
	IsTerminal func(stream any) bool

	// StateDir is what --state or RUBUS_STATE says; "" when neither does. Verbs
	// ask stateDir(), which also looks into rubus.yaml.
	StateDir string
	// RunDir holds the daemon's lock and control socket (--run, RUBUS_RUN).
	RunDir string
	// ConfigFile is rubus.yaml (--config, RUBUS_CONFIG); it may be missing.
	ConfigFile string
	// DevicesFile is devices.yaml (--devices, RUBUS_DEVICES).
	DevicesFile string
	// JSON asks for output that programs read (--json). Verbs that print
	// something ask printJSON for it.
	JSON bool
}

func newGlobals(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) *globals {
	or := func(key, def string) string {
		if v := getenv(key); v != "" {
			return v
		}
		return def
	}
	return &globals{
		Stdin: stdin, Stdout: stdout, Stderr: stderr, IsTerminal: isTerminal,
		StateDir:    getenv("RUBUS_STATE"),
		RunDir:      or("RUBUS_RUN", defaultRun),
		ConfigFile:  or("RUBUS_CONFIG", defaultConfig),
		DevicesFile: or("RUBUS_DEVICES", defaultDevices),
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (g *globals) flags(f *pflag.FlagSet) {
	f.StringVar(&g.StateDir, "state", g.StateDir, "state `directory`: images and the boards' own files (default \"state\" of rubus.yaml, or "+config.DefaultDaemon().State+")")
	f.Lookup("state").DefValue = "" // said in words
	f.StringVar(&g.RunDir, "run", g.RunDir, "`directory` of the daemon's lock and control socket")
	f.StringVar(&g.ConfigFile, "config", g.ConfigFile, "the daemon's `file`; it may be missing")
	f.StringVar(&g.DevicesFile, "devices", g.DevicesFile, "`file` that says what each board boots")
	f.BoolVar(&g.JSON, "json", g.JSON, "print JSON")
}

// stateDir is the state directory: --state, RUBUS_STATE, "state" of rubus.yaml,
// or the default, in this order.
func (g *globals) stateDir() (string, error) {
	if g.StateDir != "" {
		return filepath.Clean(g.StateDir), nil
	}
	f, err := config.LoadFile(g.ConfigFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	d, err := config.ParseDaemon(f)
	if err != nil {
		return "", ui.Hint(fmt.Errorf("where the state directory is cannot be told:\n%w", err), "mend the file, or say --state")
	}
	return d.State, nil
}

// controlSocket is where the daemon listens for the command.
func (g *globals) controlSocket() string { return filepath.Join(g.RunDir, "control.sock") }

// printJSON prints v on standard output, indented, with a newline at its end.
func (g *globals) printJSON(v any) error {
	e := json.NewEncoder(g.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	return nil
}

// answer prints, with --json, what a verb did that otherwise tells people only.
func (g *globals) answer(v any) error {
	if !g.JSON {
		return nil
	}
	return g.printJSON(v)
}

// notef tells something on standard error that was not asked for.
func (g *globals) notef(format string, a ...any) {
	fmt.Fprintf(g.Stderr, "rubus: "+format+"\n", a...)
}

// confirm asks before something is destroyed, unless yes. What will be
// destroyed has been shown before. Without a terminal nobody can answer: then
// it is an error of usage.
func (g *globals) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !g.IsTerminal(g.Stdin) {
		return ui.Usage(fmt.Errorf("%s: there is no terminal to ask on", question), "say --yes to do it without being asked")
	}
	return ui.Confirm(g.Stdin, g.Stderr, question)
}
