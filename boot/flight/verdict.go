package flight

import (
	"fmt"
	"strings"
	"time"
)

// Grade is what a boot came to.
type Grade string

// The grades.
const (
	// Well: it came up, as far as can be told. Bad: it did not. Open: it is too
	// early to say.
	Well Grade = "good"
	Bad  Grade = "failed"
	Open Grade = "under-way"
)

// Verdict is what became of a boot, and why.
type Verdict struct {
	Grade Grade `json:"grade"`
	// Rule is a short constant that names the rule which spoke.
	Rule string `json:"rule"`
	// Text is one sentence for whoever has to do something.
	Text string `json:"text"`
	// Notes are other things worth a look, a sentence each.
	Notes []string `json:"notes,omitempty"`
}

// Judge says what became of a boot. It is pure: now is the time of the question.
func Judge(t Timeline, now time.Time) Verdict {
	f := factsOf(t, now)
	v := f.judge()
	v.Notes = f.notes()
	return v
}

func (f *facts) judge() Verdict {
	busy := f.underWay()
	for _, r := range rules() {
		text := r.text(f)
		if text != "" && (busy == "" || !r.patient) {
			return Verdict{Grade: r.grade, Rule: r.name, Text: text}
		}
		if text != "" {
			break
		}
	}
	if busy != "" {
		return Verdict{Grade: Open, Rule: "under-way", Text: "under way: " + busy}
	}
	return Verdict{Grade: Open, Rule: "nothing", Text: "nothing of this boot is known"}
}

// rule is one way for a boot to end. The first whose text is not "" speaks.
type rule struct {
	name  string
	grade Grade
	// patient says that the rule speaks only when nothing is under way.
	patient bool
	text    func(*facts) string
}

// notes are the things beside the verdict.
func (f *facts) notes() []string {
	var out []string
	for _, n := range []func(*facts) string{
		lastGoodNote, spanningTreeNote, smallBlocksNote, oldBootloaderNote, retriesNote,
	} {
		if s := n(f); s != "" {
			out = append(out, s)
		}
	}
	for i, w := range f.warned {
		if i == 4 {
			break
		}
		out = append(out, w.Text)
	}
	return out
}

func lastGoodNote(f *facts) string {
	if f.prepared == nil || !f.prepared.LastGood || f.good != nil {
		return ""
	}
	return "it got the boot files of its last good boot: " + f.prepared.Problem
}

// treeSilence is how long a link may be up without a packet: spanning tree holds
// a port back for 30 s, twice its forward delay of 15 s (IEEE 802.1D).
const treeSilence = 25 * time.Second

// spanningTreeNote looks for silence behind each point at which a board takes
// its link down and up again.
func spanningTreeNote(f *facts) string {
	const advice = "spanning tree? Make the board's switch port an edge port (portfast)"
	for _, e := range f.discovers {
		if e.Quiet >= treeSilence && e.Quiet < 3*time.Minute {
			return fmt.Sprintf("%s of silence between the board's reboot and its first DISCOVER: %s", seconds(e.Quiet), advice)
		}
	}
	for i := range f.t.Events {
		e := &f.t.Events[i]
		if e.Kind != File || e.Outcome != Whole || e.Name != "bootcode.bin" {
			continue
		}
		for _, d := range f.discovers {
			if gap := d.Time.Sub(e.Time); gap >= treeSilence {
				return fmt.Sprintf("%s of silence after bootcode.bin brought the link up: %s", seconds(gap), advice)
			}
		}
	}
	if f.kernel != nil && f.after != nil {
		if gap := f.after.Time.Sub(f.kernel.Time); gap >= treeSilence {
			return fmt.Sprintf("%s of silence after the kernel brought the link up: %s", seconds(gap), advice)
		}
	}
	return ""
}

func smallBlocksNote(f *facts) string {
	if f.stage() != "eeprom" {
		return ""
	}
	for _, e := range f.files {
		// start4.elf itself reads in such blocks, whatever its age.
		if strings.HasPrefix(e.Name, "start4") && e.Outcome == Whole && e.Block > 0 && e.Block <= 1024 {
			return "the bootloader is older than 2022-10-03 and reads in small blocks: a newer one is a third faster (rpi-eeprom-update on the board)"
		}
	}
	return ""
}

func oldBootloaderNote(f *facts) string {
	for _, e := range f.discovers {
		if strings.HasPrefix(e.Bootloader, "before 20") || strings.HasPrefix(e.Bootloader, "2020-03-04") {
			return "the bootloader is old (" + e.Bootloader + "): update it (rpi-eeprom-update on the board)"
		}
	}
	return ""
}

// retriesNote speaks when more than one packet of 200 was sent again.
func retriesNote(f *facts) string {
	again, packets := 0, int64(0)
	for _, e := range f.files {
		again += e.Retries
		if e.Block > 0 {
			packets += e.Bytes / int64(e.Block)
		}
	}
	if again < 10 || int64(again)*200 < packets {
		return ""
	}
	return fmt.Sprintf("%d packets of its files had to be sent again: a bad cable, a duplex mismatch or a full switch", again)
}

// seconds is a time as people say it.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 3*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// megabytes is a size as firmware's limits are told.
func megabytes(n int64) string {
	if n < 1e6 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
