package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// display is what the terminal shows.
type display struct {
	server  *server
	reader  *reader
	options options
	term    *terminal
	started time.Time

	now, before struct { // the last two samples
		sample
		read int64
		at   time.Time
	}
	in, out float64 // bytes a second, smoothed
	paused  int64   // the rate to go back to
	drawn   bool
}

// Bounds of what the keys do to the rate, in bytes a second.
const (
	rateLeast = 64 << 10
	rateMost  = 4 << 30
)

// watch shows the queue until the time is over, a signal comes, the user quits
// or the reader ends.
func (d *display) watch(period time.Duration, keys <-chan key, signals <-chan os.Signal) {
	var over <-chan time.Time
	if d.options.length > 0 {
		over = time.After(d.options.length)
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	samples := make(chan sample, 1)
	d.server.look(samples)
	for {
		select {
		case <-over:
			return
		case <-signals:
			return
		case k := <-keys:
			if d.press(k) {
				return
			}
		case err := <-d.reader.done:
			d.reader.done <- err
			return
		case <-tick.C:
			d.server.look(samples)
		case s := <-samples:
			d.take(s)
			if keys != nil {
				d.draw()
			} else if d.before.at != (time.Time{}) {
				d.line()
			}
		}
	}
}

// press does what a key asks for, and reports whether that is to quit.
func (d *display) press(k key) (quit bool) {
	rate := d.reader.rate.Load()
	switch {
	case k == keyQuit:
		return true
	case k == keyPause && rate > 0:
		d.paused = rate
		d.reader.rate.Store(0)
	case k == keyPause || rate == 0:
		d.reader.rate.Store(max(d.paused, rateLeast))
	case k == keyFaster:
		d.reader.rate.Store(min(rate*2, rateMost))
	case k == keySlower:
		d.reader.rate.Store(max(rate/2, rateLeast))
	}
	return false
}

// take keeps a sample and works out the speeds.
func (d *display) take(s sample) {
	d.before = d.now
	d.now.sample, d.now.read, d.now.at = s, d.reader.read.Load(), time.Now()
	if d.before.at.IsZero() {
		return
	}
	seconds := d.now.at.Sub(d.before.at).Seconds()
	weight := min(1, seconds*2) // Half a second's worth, when drawn ten times a second.
	in := float64(d.now.stats.BytesOut-d.before.stats.BytesOut+uint64(d.now.pending)) - float64(d.before.pending)
	d.in += (in/seconds - d.in) * weight
	d.out += (float64(d.now.read-d.before.read)/seconds - d.out) * weight
}

// line prints what there is to see without a terminal.
func (d *display) line() {
	fmt.Printf("%4.0fs  queue %s of %s%s  full %d  drain %d  in %s/s  read %s/s\n",
		time.Since(d.started).Seconds(), bytesText(float64(d.now.pending)), bytesText(float64(d.options.high)),
		map[bool]string{true: ", full"}[d.now.full], d.now.stats.Full, d.now.stats.Drain, bytesText(d.in), bytesText(d.out))
}

// draw paints the terminal over what was there.
func (d *display) draw() {
	width := max(40, d.term.width())
	info := d.server.group.Info()
	speed := "as fast as it goes"
	if rate := d.reader.rate.Load(); rate == 0 {
		speed = "paused"
	} else if rate > 0 {
		speed = bytesText(float64(rate)) + "/s"
	}
	state := "filling"
	if d.now.full {
		state = "FULL, waiting for the drain"
	}
	lines := []string{
		fmt.Sprintf("penstock firehose on %s   engine %s   loops %d   connections %d",
			d.server.addr, info.Engine, info.Loops, d.server.open.Load()),
		"",
		"  queue   " + d.bar(width-12),
		fmt.Sprintf("          %s pending   low %s   high %s   %s", bytesText(float64(d.now.pending)),
			bytesText(float64(d.options.low)), bytesText(float64(d.options.high)), state),
		fmt.Sprintf("  hooks   full %d   drain %d", d.now.stats.Full, d.now.stats.Drain),
		fmt.Sprintf("  in      %s/s   %s in all", bytesText(d.in), bytesText(float64(d.now.stats.BytesOut)+float64(d.now.pending))),
		fmt.Sprintf("  read    %s/s   %s in all   reader: %s", bytesText(d.out), bytesText(float64(d.now.read)), speed),
		"",
		"  + - reader faster, slower   space pause   q quit",
		fmt.Sprintf(`  beside: printf 'SEND 1000000 abc\nQUIT\n' | nc %s %d | sha256sum`, d.server.addr.Addr(), d.server.addr.Port()),
	}
	var b strings.Builder
	if d.drawn {
		fmt.Fprintf(&b, "\x1b[%dA", len(lines))
	}
	d.drawn = true
	for i, line := range lines {
		if i != 2 { // The bar is as wide as it should be, and has colours that are not seen.
			line = line[:min(len(line), width-1)]
		}
		b.WriteString("\r\x1b[K" + line + "\n")
	}
	_, _ = os.Stdout.WriteString(b.String())
}

// bar is the queue from nothing to a little above high water, with both marks.
func (d *display) bar(width int) string {
	scale := float64(d.options.high) * 1.1
	at := func(n int) int { return min(width-1, int(float64(n)/scale*float64(width))) }
	filled, low, high := at(d.now.pending), at(d.options.low), at(d.options.high)
	var b strings.Builder
	if b.WriteString("\x1b[32m"); d.now.full {
		b.WriteString("\x1b[31m")
	}
	for i := range width {
		switch {
		case i == high || i == low:
			b.WriteString("|")
		case i < filled:
			b.WriteString("#")
		default:
			b.WriteString(".")
		}
	}
	b.WriteString("\x1b[0m")
	return b.String()
}

// bytesText writes a number of bytes with three or four digits.
func bytesText(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1000 {
			if unit == "B" || n >= 100 {
				return fmt.Sprintf("%.0f %s", n, unit)
			}
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.2f TiB", n)
}
