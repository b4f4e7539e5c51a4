package cli

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

	"rubus/cmd/internal/control"
	"rubus/cmd/internal/progress"
	"rubus/cmd/internal/ui"
	"rubus/config"
)

// Where things are unless said otherwise.
const (
	defaultRun     = "/run/rubus"
	defaultConfig  = "/etc/rubus/rubus.yaml"
	defaultDevices = "/etc/rubus/devices.yaml"
)

// Globals is what every verb is given: the streams and the persistent flags.
type Globals struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// IsTerminal says whether one of the streams is a terminal.
	IsTerminal func(stream any) bool

	// State is what --state or RUBUS_STATE says; "" when neither does. Verbs ask
	// StateDir, which also looks into rubus.yaml.
	State string
	// RunDir holds the daemon's lock and control socket (--run, RUBUS_RUN).
	RunDir string
	// ConfigFile is rubus.yaml (--config, RUBUS_CONFIG); it may be missing.
	ConfigFile string
	// DevicesFile is devices.yaml (--devices, RUBUS_DEVICES).
	DevicesFile string
	// JSON asks for output that programs read (--json). Verbs that print
	// something ask PrintJSON for it.
	JSON bool

	// Watch, when set, is given each display of something long, and gives the one that the verb
	// tells. For tests, which have a verb wait until what it told is seen.
	Watch func(progress.Display) progress.Display
}

// New takes the environment's word for what flags do not say.
func New(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) *Globals {
	or := func(key, def string) string {
		if v := getenv(key); v != "" {
			return v
		}
		return def
	}
	return &Globals{
		Stdin: stdin, Stdout: stdout, Stderr: stderr, IsTerminal: isTerminal,
		State:       getenv("RUBUS_STATE"),
		RunDir:      or("RUBUS_RUN", defaultRun),
		ConfigFile:  or("RUBUS_CONFIG", defaultConfig),
		DevicesFile: or("RUBUS_DEVICES", defaultDevices),
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// AddFlags adds the persistent flags to f.
func (g *Globals) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&g.State, "state", g.State, "state `directory`: images and the boards' own files (default \"state\" of rubus.yaml, or "+config.DefaultDaemon().State+")")
	f.Lookup("state").DefValue = "" // said in words
	f.StringVar(&g.RunDir, "run", g.RunDir, "`directory` of the daemon's lock and control socket")
	f.StringVar(&g.ConfigFile, "config", g.ConfigFile, "the daemon's `file`; it may be missing")
	f.StringVar(&g.DevicesFile, "devices", g.DevicesFile, "`file` that says what each board boots")
	f.BoolVar(&g.JSON, "json", g.JSON, "print JSON")
}

// StateDir is the state directory: --state, RUBUS_STATE, "state" of rubus.yaml,
// or the default, in this order.
func (g *Globals) StateDir() (string, error) {
	if g.State != "" {
		return filepath.Clean(g.State), nil
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

// Reserve is the space that rubus.yaml keeps of the disk, below which the daemon lets
// no board write; 0 without such a file.
func (g *Globals) Reserve() int64 {
	f, err := config.LoadFile(g.ConfigFile)
	if err != nil {
		return 0
	}
	d, err := config.ParseDaemon(f)
	if err != nil {
		return 0
	}
	return d.Reserve
}

// ControlSocket is where the daemon listens for the command.
func (g *Globals) ControlSocket() string { return filepath.Join(g.RunDir, "control.sock") }

// PrintJSON prints v on standard output, indented, with a newline at its end.
func (g *Globals) PrintJSON(v any) error {
	e := json.NewEncoder(g.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	return nil
}

// Answer prints, with --json, what a verb did that otherwise tells people only.
func (g *Globals) Answer(v any) error {
	if !g.JSON {
		return nil
	}
	return g.PrintJSON(v)
}

// Notef tells something on standard error that was not asked for.
func (g *Globals) Notef(format string, a ...any) {
	fmt.Fprintf(g.Stderr, "rubus: "+format+"\n", a...)
}

// Confirm asks before something is destroyed, unless yes. What will be
// destroyed has been shown before. Without a terminal nobody can answer: then
// it is an error of usage.
func (g *Globals) Confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !g.IsTerminal(g.Stdin) {
		return ui.Usage(fmt.Errorf("%s: there is no terminal to ask on", question), "say --yes to do it without being asked")
	}
	return ui.Confirm(g.Stdin, g.Stderr, question)
}

// LoadConfig loads both files for a verb that works without the daemon.
func (g *Globals) LoadConfig() (*config.Snapshot, error) {
	s, err := config.Load(config.Paths{Daemon: g.ConfigFile, Devices: g.DevicesFile})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ui.Hint(err, "\"rubus device add SERIAL --image NAME\" makes the file")
	}
	return s, err
}

// Progress shows something long, on standard error.
func (g *Globals) Progress() progress.Display {
	show := progress.New(g.Stderr, g.IsTerminal(g.Stderr), "rubus: ")
	if g.Watch != nil {
		show = g.Watch(show)
	}
	return show
}

// Telling shows how far long work of the daemon is; end takes the display down.
func (g *Globals) Telling(phase string) (tell func(control.Progress), end func()) {
	show := g.Progress()
	return func(p control.Progress) {
		show.Update(progress.State{Phase: phase, Done: p.Bytes, Total: p.Total, Files: p.Files})
	}, show.End
}
