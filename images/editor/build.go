package editor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v3"

	"rubus/images"
	"rubus/images/importer"
)

// Recipe is a file of steps.
type Recipe struct {
	// From is the version to begin with.
	From    string `yaml:"from"`
	Message string `yaml:"message"`
	Steps   []Step `yaml:"steps"`
}

// Step is one of: a command for the shell, or a copy of files.
type Step struct {
	Run  string `yaml:"run"`
	Copy *Copy  `yaml:"copy"`
}

// Copy puts the file or directory From, relative to the recipe, to To in the image.
// Owners become root; modes and times stay.
type Copy struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// String says what the step does.
func (s Step) String() string {
	if s.Copy != nil {
		return "copy " + s.Copy.From + " " + s.Copy.To
	}
	return "run " + s.Run
}

// ParseRecipe reads a recipe. Unknown keys are errors.
func ParseRecipe(r io.Reader) (Recipe, error) {
	var out Recipe
	d := yaml.NewDecoder(io.LimitReader(r, 1<<20))
	d.KnownFields(true)
	if err := d.Decode(&out); err != nil {
		return out, err
	}
	if out.From == "" || len(out.Steps) == 0 {
		return out, errors.New("it needs \"from\", a version, and \"steps\"")
	}
	for i, s := range out.Steps {
		if (s.Run == "") == (s.Copy == nil) {
			return out, fmt.Errorf("step %d needs one of \"run\" and \"copy\"", i+1)
		}
		if c := s.Copy; c != nil && (c.From == "" || !filepath.IsAbs(c.To) || !filepath.IsLocal(c.From)) {
			return out, fmt.Errorf("step %d: \"from\" is a path below the file's directory, \"to\" begins with \"/\"", i+1)
		}
	}
	return out, nil
}

// Progress is how far a step is.
type Progress int

// The progress of a step.
const (
	// StepCached: it is not done again.
	StepCached Progress = iota
	// StepRuns: it begins, and what it prints is printed.
	StepRuns
	// StepRan: it ended well, and what it wrote is kept now.
	StepRan
)

// Build makes the next version of the image name by the steps of a recipe that lies in dir.
// A step whose text, files and predecessors did not change is not done again. told is called
// at each progress of each step.
func Build(ctx context.Context, store *images.Store, base images.Version, name, dir string, r Recipe, o Options, told func(i int, s Step, p Progress)) (images.Version, importer.Report, error) {
	var steps []importer.Step
	for i, s := range r.Steps {
		text := s.String()
		if s.Copy != nil {
			sum, err := digestOf(ctx, filepath.Join(dir, s.Copy.From))
			if err != nil {
				return images.Version{}, importer.Report{}, fmt.Errorf("step %d: %w", i+1, err)
			}
			text += " " + sum
		}
		steps = append(steps, importer.Step{
			Text:   text,
			Again:  o.Again,
			Cached: func() { told(i, s, StepCached) },
			Upper: func(ctx context.Context, dirs []string) (string, func() error, error) {
				told(i, s, StepRuns)
				wrote, done, err := upper(ctx, store, dirs, base.Ref.Name, dir, s, o)
				if err == nil {
					told(i, s, StepRan)
				}
				return wrote, done, err
			},
		})
	}
	in := o.Import
	in.Base = &base
	v, rep, err := importer.BuildSteps(ctx, store, name, "build over "+base.Ref.String(), steps, in)
	if err != nil {
		if c := context.Cause(ctx); c != nil {
			err = c
		}
		err = fmt.Errorf("building %q: %w", name, err)
	}
	return v, rep, err
}

// digestOf names the content of a file or directory.
func digestOf(ctx context.Context, p string) (string, error) {
	st, err := os.Stat(p)
	if err != nil {
		return "", err
	}
	if st.IsDir() {
		return images.DigestTree(ctx, p)
	}
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x %o %d", h.Sum(nil), st.Mode().Perm(), st.ModTime().UnixNano()), nil
}

// upper does one step over layers.
func upper(ctx context.Context, store *images.Store, dirs []string, name, recipe string, step Step, o Options) (string, func() error, error) {
	scratch, err := store.Begin(ctx)
	if err != nil {
		return "", nil, err
	}
	s, err := begin(scratch.Dir(), dirs, name)
	if err == nil {
		o.Terminal = false
		if step.Copy != nil {
			err = copyIn(ctx, s, filepath.Join(recipe, step.Copy.From), step.Copy.To, o)
		} else {
			s.Command = []string{"/bin/sh", "-e", "-c", step.Run}
			err = run(ctx, s, o)
		}
	}
	if err != nil {
		return "", nil, errors.Join(err, scratch.Abort())
	}
	return s.Upper, scratch.Abort, nil
}

// copyIn unpacks the files inside the image: a link there can't lead out of it.
func copyIn(ctx context.Context, s spec, from, to string, o Options) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	args := []string{"--numeric-owner", "--owner=0", "--group=0", "-c"}
	if st.IsDir() {
		args = append(args, "-C", from, ".")
		s.Extract = to
	} else {
		// A file takes the name that "to" says, or keeps its own in a directory.
		dir, base := filepath.Split(to)
		if base == "" {
			base = filepath.Base(from)
		}
		args = append(args, "--transform", "s,.*,"+strings.NewReplacer(`\`, `\\`, `,`, `\,`, `&`, `\&`).Replace(base)+",", "-C", filepath.Dir(from), filepath.Base(from))
		s.Extract = dir
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	tar := exec.CommandContext(ctx, "tar", args...)
	tar.Stdout, tar.Stderr = w, o.Stderr
	tar.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := tar.Start(); err != nil {
		w.Close()
		return err
	}
	w.Close()
	o.Stdin = r
	return errors.Join(run(ctx, s, o), tar.Wait())
}
