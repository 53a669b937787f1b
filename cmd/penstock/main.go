// Command penstock serves the built-in protocols on either engine, and tells
// what the host can do. See penstock help, and README.md.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something kept it from its task, or it was told twice to stop
	exitUsage  = 2 // a wrong command line
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError is a command line that was parsed and cannot be meant.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// wrong makes a usageError.
func wrong(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// streams are where a command prints to.
type streams struct{ out, err io.Writer }

// run runs the command line and returns the exit code. What went wrong is one
// line on stderr.
func run(args []string, stdout, stderr io.Writer) int {
	err := execute(args, streams{stdout, stderr})
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errTold) {
		return exitFailed
	}
	fmt.Fprintf(stderr, "penstock: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func execute(args []string, s streams) error {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("penstock"),
		kong.Description("Serve built-in protocols from a reactor on io_uring or epoll, and tell what this host can do."),
		kong.Writers(s.out, s.err),
		kong.WithHyphenPrefixedParameters(true), // A value below 0 is the flag's to judge.
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Help(printHelp),
	)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return wrong("a command is missing: serve, probe, version or help; see 'penstock help'")
	}
	if args[0] == "help" {
		if len(args) > 1 && !strings.HasPrefix(args[1], "-") && helpFor(args[1:]) == "penstock help" {
			return wrong("there is no help on %q; see 'penstock help'", args[1])
		}
		if len(args) > 2 && !strings.HasPrefix(args[2], "-") {
			return wrong("help takes one command, and nothing behind it: %q; see 'penstock help'", args[2])
		}
		args = append(args[1:len(args):len(args)], "--help")
	}
	if last := args[len(args)-1]; lacksValue(parser.Model, last) {
		return wrong("%s: a value is missing; see '%s'", last, helpFor(args))
	}
	ctx, err := parser.Parse(args)
	if unwritten := (*fs.PathError)(nil); errors.As(err, &unwritten) {
		return err // It was understood: the help that it asks for cannot be written.
	}
	if err != nil {
		return wrong("%v; see '%s'", err, helpFor(args))
	}
	return ctx.Run(ctx, s)
}

// printHelp prints the help of a command, and with that of the program those of the
// commands that have flags.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil || ctx.Selected() != nil {
		return err
	}
	for _, name := range []string{"serve", "probe"} {
		command, err := kong.Trace(ctx.Kong, []string{name})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(ctx.Stdout, "\n"); err != nil {
			return err
		}
		if err := kong.DefaultHelpPrinter(options, command); err != nil {
			return err
		}
	}
	return nil
}

// lacksValue reports whether arg, the last of a line, is a flag that needs a value behind it.
func lacksValue(model *kong.Application, arg string) bool {
	for _, command := range model.Children {
		for _, f := range command.Flags {
			if arg == "--"+f.Name && !f.IsBool() {
				return true
			}
		}
	}
	return false
}

// helpFor names the help that goes with a command line.
func helpFor(args []string) string {
	switch args[0] {
	case "serve", "probe", "version", "help":
		return "penstock help " + args[0]
	}
	return "penstock help"
}
