package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Main is the generator as a process: it reads one Spec as a line of JSON from
// its standard input, prints Events, and ends early when the input closes.
func Main(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no specification: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(line, &spec); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		cancel() // Whoever started this is gone.
	}()
	events := json.NewEncoder(out)
	result, err := Run(ctx, spec, func() { _ = events.Encode(Event{Window: true}) })
	if err != nil {
		return events.Encode(Event{Error: err.Error()})
	}
	return events.Encode(Event{Result: result})
}
