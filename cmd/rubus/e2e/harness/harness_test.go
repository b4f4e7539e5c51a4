package harness

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestLog(t *testing.T) {
	l := Log(filepath.Join(t.TempDir(), "log"))
	if l.End() != 0 || l.Text(5) != "" {
		t.Errorf("a log that is not there ends at %d", l.End())
	}
	const first, second = "msg=serving port=2049\n", "msg=\"a board\"\nmsg=ending port=111\n"
	must(t, os.WriteFile(string(l), []byte(first+second), 0o600))
	for name, c := range map[string]struct {
		from  int
		words []string
		want  bool
	}{
		"one line has all words":    {0, []string{"msg=serving", "2049"}, true},
		"in any order":              {0, []string{"111", "ending"}, true},
		"two lines have them":       {0, []string{"msg=serving", "111"}, false},
		"it was said before":        {len(first), []string{"msg=serving"}, false},
		"it was said since":         {len(first), []string{"msg=ending"}, true},
		"an offset behind the end":  {1000, []string{"msg"}, false},
		"the middle of a line":      {4, []string{"serving"}, true},
		"what no line has":          {0, []string{"panic"}, false},
		"a line that does not end":  {len(first + second), []string{"m"}, false},
		"no words are in each line": {0, nil, true},
	} {
		if err := l.Said(c.from, c.words...); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := LastLines(first+second, 2); got != "msg=\"a board\"\nmsg=ending port=111" {
		t.Errorf("the last two lines are %q", got)
	}
	if got := LastLines("one", 20); got != "one" {
		t.Errorf("the last lines of one are %q", got)
	}
}

func TestPoll(t *testing.T) {
	bad := errors.New("not yet")
	for name, c := range map[string]struct {
		ready, limit time.Duration // when it is so, and how long one waits
		want         error
	}{
		"at once":  {0, 0, nil},
		"in time":  {time.Second, 2 * time.Second, nil},
		"too late": {3 * time.Second, 2 * time.Second, bad},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			err := Poll(t, c.limit, func() error {
				if time.Since(begin) < c.ready {
					return bad
				}
				return nil
			})
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}
