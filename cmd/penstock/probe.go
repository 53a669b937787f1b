package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/penstock-go/penstock/reactor"
)

type probeCmd struct {
	JSON bool `name:"json" help:"Print one JSON object: kernel, engine, reason, cpus, nofile, memlock (bytes, null when unlimited) and features (name to bool)."`
}

// errNoEngine is why probe ends with exit code 1.
var errNoEngine = errors.New("no engine works on this host, for the reason above")

// Run prints what the host gives.
func (p *probeCmd) Run(s streams) error {
	info := started(reactor.Probe())
	write := probeText
	if p.JSON {
		write = probeJSON
	}
	text, err := write(info)
	if err != nil {
		return err
	}
	if _, err = s.out.Write(text); err == nil && info.Engine == "" {
		err = errNoEngine
	}
	return err
}

// started says which engine serve takes with a loop for each CPU: one ring was tried, and the
// memory lock or the descriptors may not do for all of them.
func started(info reactor.Info) reactor.Info {
	if info.Engine == "" {
		return info
	}
	srv := &server{streams: streams{io.Discard, io.Discard}}
	if err := srv.start(&serveCmd{Engine: "auto"}); err != nil {
		info.Engine, info.Reason = "", err.Error()
		return info
	}
	info.Engine, info.Reason = srv.group.Info().Engine, srv.group.Info().Reason
	_ = srv.group.Close()
	return info
}

func probeJSON(info reactor.Info) ([]byte, error) {
	answer := struct {
		Kernel   string          `json:"kernel"`
		Engine   string          `json:"engine"`
		Reason   string          `json:"reason"`
		CPUs     int             `json:"cpus"`
		NoFile   uint64          `json:"nofile"`
		MemLock  *uint64         `json:"memlock"`
		Features map[string]bool `json:"features"`
	}{info.Kernel, info.Engine, info.Reason, info.CPUs, info.NoFile, nil, map[string]bool{}}
	if info.MemLock != math.MaxUint64 {
		answer.MemLock = &info.MemLock
	}
	for _, f := range info.Features {
		answer.Features[f.Name] = f.Have
	}
	text, err := json.MarshalIndent(answer, "", "  ")
	return append(text, '\n'), err
}

func probeText(info reactor.Info) ([]byte, error) {
	var b strings.Builder
	engine, memlock := info.Engine, fmt.Sprintf("%d bytes", info.MemLock)
	if engine == "" {
		engine = "none"
	}
	if info.MemLock == math.MaxUint64 {
		memlock = "unlimited"
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "kernel\t%s\nengine\t%s\nreason\t%s\n", info.Kernel, engine, info.Reason)
	fmt.Fprintf(w, "cpus\t%d\nnofile\t%d descriptors\nmemlock\t%s\n", info.CPUs, info.NoFile, memlock)
	for i, f := range info.Features {
		if i == 0 {
			fmt.Fprintf(w, "\nio_uring feature\there\tsince Linux\n")
		}
		here := "no"
		if f.Have {
			here = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, here, f.Kernel)
	}
	err := w.Flush()
	return []byte(b.String()), err
}
