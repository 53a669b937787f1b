package report

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/penstock-go/penstock/bench/internal/scenario"
)

// Marks around what is generated in README. The first names the raw figures.
const (
	readmeBegin = "<!-- bench:begin %s -->"
	readmeEnd   = "<!-- bench:end -->"
)

var readmeBlock = regexp.MustCompile(`(?s)<!-- bench:begin ?(\S*) ?-->.*?<!-- bench:end -->`)

// ReadmeSource returns the file that the block of a README is generated from,
// and whether there is a block.
func ReadmeSource(readme string) (name string, ok bool) {
	m := readmeBlock.FindStringSubmatch(readme)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// Readme returns the README with its block generated anew from a report that
// is kept under the name.
func (r *Report) Readme(readme, name string) (string, error) {
	if _, ok := ReadmeSource(readme); !ok {
		return "", fmt.Errorf("there is no block from %q to %q", fmt.Sprintf(readmeBegin, "FILE"), readmeEnd)
	}
	block := fmt.Sprintf(readmeBegin, name) + "\n" + r.markdown(name) + readmeEnd
	return readmeBlock.ReplaceAllLiteralString(readme, block), nil
}

// columns of README: who stands for whom.
type column struct {
	title    string
	families []string
	own      string
}

// What README shows: who is beside io_uring where the bytes are raw, and where they
// are a WebSocket's.
var (
	rawColumns = []column{{title: "epoll engine", own: "epoll"}, {title: "best C", families: []string{"c"}}, {title: "gnet", families: []string{"gnet"}},
		{title: "nbio", families: []string{"nbio"}}, {title: "netpoll", families: []string{"netpoll"}}, {title: "net", families: []string{"net"}}}
	wsColumns = []column{{title: "epoll engine", own: "epoll"}, {title: "gws", families: []string{"gws"}}, {title: "gobwas", families: []string{"gobwas"}},
		{title: "gorilla", families: []string{"gorilla"}}, {title: "coder", families: []string{"coder"}}, {title: "nbio", families: []string{"nbio-ws"}},
		{title: "Bun", families: []string{"bun"}}}
)

// table is the CPU time of scenarios, those of WebSockets or the others.
func (r *Report) table(b *strings.Builder, columns []column, webSocket bool) {
	var rows []Scenario
	for _, sc := range r.of(scenario.CPU) {
		if _, ok := r.median(sc.Name, "", "uring", cpuTime); ok && strings.HasPrefix(sc.Name, "ws-") == webSocket {
			rows = append(rows, sc)
		}
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(rows, func(sc Scenario) bool { _, ok := r.pick(c, sc.Name); return ok })
	})
	if len(rows) == 0 {
		return
	}
	b.WriteString("\n| CPU time of the server a message | io_uring, ns | A/A |")
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, sc := range rows {
		ns, _ := r.median(sc.Name, "", "uring", cpuTime)
		noise := r.noise(sc.Name, "", cpuTime)
		fmt.Fprintf(b, "| `%s` | %.0f | %s |", sc.Name, ns, noiseCell(noise).Text)
		for _, c := range columns {
			peer, ok := r.pick(c, sc.Name)
			if !ok {
				fmt.Fprintf(b, " %s |", none)
				continue
			}
			fmt.Fprintf(b, " %s |", ratioCell(r.ratio(sc.Name, "", peer, "uring", cpuTime), noise).Text)
		}
		b.WriteString("\n")
	}
}

// markdown is tables of CPU times, one line on memory, and how they came about.
func (r *Report) markdown(name string) string {
	var b strings.Builder
	r.table(&b, rawColumns, false)
	r.table(&b, wsColumns, true)
	if idle, after, n := r.memory("idle-10k", "uring"); n > 0 && !math.IsNaN(idle) {
		fmt.Fprintf(&b, "\nAn idle connection holds %.0f B of resident memory, %.0f B after its first message (%d connections).\n", idle, after, n)
	}
	e := r.Environment
	fmt.Fprintf(&b, "\nOthers as a ratio to io_uring, the median of pairs (above 1: they cost more); ≈ is not resolved: a difference smaller than the A/A spread, or one whose own spread holds 1. "+
		"%s, %d CPUs, kernel %s, null system call %.0f ns, %s, commit %s. Raw figures: [%s](%s). Yours: `go run ./bench -compare`.\n",
		e.CPU, e.CPUs, e.Kernel, e.NullCall, e.Go, e.Commit, name, name)
	return b.String()
}

func (r *Report) pick(c column, row string) (string, bool) {
	if c.own != "" {
		_, ok := r.median(row, "", c.own, cpuTime)
		return c.own, ok
	}
	return r.best(row, "", cpuTime, c.families...)
}
