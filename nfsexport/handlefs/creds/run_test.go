package creds

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// thread is what the kernel says of a thread's credentials.
type thread struct {
	uid, gid string // of its file accesses
	groups   string
	override bool // CAP_DAC_OVERRIDE
	handles  bool // CAP_DAC_READ_SEARCH
}

// look reads the credentials of a thread of this process; "": of the calling one.
func look(task string) (thread, error) {
	if task == "" {
		task = strconv.Itoa(unix.Gettid())
	}
	b, err := os.ReadFile("/proc/self/task/" + task + "/status")
	if err != nil {
		return thread{}, err
	}
	field := func(name string) []string {
		m := regexp.MustCompile(`(?m)^` + name + `:[ \t]*(.*)$`).FindSubmatch(b)
		if m == nil {
			return nil
		}
		return strings.Fields(string(m[1]))
	}
	uid, gid, caps := field("Uid"), field("Gid"), field("CapEff")
	if len(uid) != 4 || len(gid) != 4 || len(caps) != 1 {
		return thread{}, fmt.Errorf("a status of another form:\n%s", b)
	}
	eff, err := strconv.ParseUint(caps[0], 16, 64)
	return thread{
		uid: uid[3], gid: gid[3], groups: strings.Join(field("Groups"), " "),
		override: eff&(1<<unix.CAP_DAC_OVERRIDE) != 0, handles: eff&(1<<unix.CAP_DAC_READ_SEARCH) != 0,
	}, err
}

// TestRun: a function runs with the caller's credentials and no others.
func TestRun(t *testing.T) {
	const none = ^uint32(0)
	before, err := look("")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		who  Caller
		want thread
		e    unix.Errno // 0: it is run
	}{
		"root":                      {Caller{}, before, 0},
		"root of another group":     {Caller{GID: 2000}, thread{"0", "2000", before.groups, true, true}, 0},
		"a user":                    {Caller{UID: 1000, GID: 2000}, thread{"1000", "2000", "", false, false}, 0},
		"a user with groups":        {Caller{UID: 1000, GID: 2000, Groups: []uint32{3000, 3001}}, thread{"1000", "2000", "3000 3001", false, false}, 0},
		"a user of root's group":    {Caller{UID: 1000}, thread{"1000", "0", "", false, false}, 0},
		"no user":                   {Caller{UID: none, GID: 2000}, thread{}, unix.EACCES},
		"a user of no group":        {Caller{UID: 1000, GID: none}, thread{}, unix.EACCES},
		"root of no group":          {Caller{GID: none}, thread{}, unix.EACCES},
		"more groups than there is": {Caller{UID: 1000, Groups: make([]uint32, 1<<17)}, thread{}, unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			ran := false
			e, stuck := c.who.Run(func() unix.Errno {
				ran = true
				got, err := look("")
				if c.who.UID == 0 {
					got.groups = c.want.groups // they make no difference
				}
				if err != nil || got != c.want {
					t.Errorf("it runs as %+v, want %+v; %v", got, c.want, err)
				}
				return unix.ENOTTY
			})
			if want := c.e; want == 0 && e != unix.ENOTTY || want != 0 && e != want || ran != (want == 0) || stuck {
				t.Errorf("%v, it ran: %v, a thread is stuck: %v", e, ran, stuck)
			}
			allAre(t, before)
		})
	}
}

// allAre checks that no thread of the process has kept a caller's credentials.
func allAre(t *testing.T, want thread) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		got, err := look(task.Name())
		if err != nil {
			continue // it ended
		}
		if got.uid != want.uid || got.gid != want.gid || got.override != want.override || got.handles != want.handles {
			t.Errorf("thread %s has kept %+v", task.Name(), got)
		}
	}
}

func defect() unix.Errno { panic("a defect") }

// TestRunPanics: a defect in what is run as a user is the caller's to meet, as with root,
// and not the end of the process; the thread is the server's again. Where it happened is told,
// too.
func TestRunPanics(t *testing.T) {
	before, err := look("")
	if err != nil {
		t.Fatal(err)
	}
	for name, who := range map[string]Caller{"root": {}, "a user": {UID: 1000, GID: 2000}} {
		func() {
			defer func() {
				what := recover()
				if d, ok := what.(*Defect); ok != (who.UID != 0) {
					t.Errorf("%s: it ended with a %T", name, what)
				} else if ok {
					if !strings.Contains(d.Error(), "creds.defect(") {
						t.Errorf("%s: it is not told where it happened: %v", name, d)
					}
					what = d.What
				}
				if what != "a defect" {
					t.Errorf("%s: it ended with %v", name, what)
				}
			}()
			who.Run(defect)
		}()
	}
	allAre(t, before)
}

// TestRunTogether has many users at work at once: none is another.
func TestRunTogether(t *testing.T) {
	before, err := look("")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for u := range uint32(8) {
		wg.Go(func() {
			who := Caller{UID: 1000 + u, GID: 2000 + u, Groups: []uint32{3000 + u}}
			want := thread{fmt.Sprint(1000 + u), fmt.Sprint(2000 + u), fmt.Sprint(3000 + u), false, false}
			for range 50 {
				if e, stuck := who.Run(func() unix.Errno {
					if got, err := look(""); err != nil || got != want {
						t.Errorf("it runs as %+v, want %+v; %v", got, want, err)
					}
					return 0
				}); e != 0 || stuck {
					t.Errorf("%v, a thread is stuck: %v", e, stuck)
				}
			}
		})
	}
	wg.Wait()
	allAre(t, before)
}
