// Command plumbline tells whether a packet sent from here arrives there, and if not, which object or rule stops it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit statuses that are the same for every subcommand; a subcommand may add its own.
const (
	statusOK    = 0
	statusError = 1
	// statusUsage stands for wrong usage and for input that cannot be read.
	statusUsage = 2
	// statusInterrupted is what shells say of a command that SIGINT has ended.
	statusInterrupted = 130
)

// commands makes the subcommands, each in its own file.
var commands = []func() *cobra.Command{
	newAgentCommand,
	newCollectCommand,
	newControllerCommand,
	newDiagnoseCommand,
	newLabCommand,
	newServeAgentCommand,
	newServeCommand,
	newVersionCommand,
}

// exitError is an error that says which status the process is to end with. Without an error of its own nothing is
// printed: whoever returns it has said everything.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError marks wrong usage or unreadable input.
func usageError(format string, args ...any) error {
	return &exitError{code: statusUsage, err: fmt.Errorf(format, args...)}
}

func main() {
	interceptListener()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C does not ask
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit status of the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	err := root.ExecuteContext(ctx)
	var status *exitError
	switch {
	case err == nil:
		return statusOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "plumbline: interrupted")
		return statusInterrupted
	case errors.As(err, &status):
		if status.err != nil {
			complain(stderr, err)
		}
		return status.code
	default:
		complain(stderr, err)
		if !started {
			return statusUsage // cobra itself refused the arguments or flags
		}
		return statusError
	}
}

// complain prints an error as one line, also one that several errors were joined into.
func complain(w io.Writer, err error) {
	fmt.Fprintln(w, "plumbline:", strings.ReplaceAll(err.Error(), "\n", "; "))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "plumbline",
		Short: "Tells whether packets arrive, and what stops them",
		Long: `Tells whether packets arrive, and what stops them.

Exit status: 0 done, 1 failed, 2 wrong usage or unreadable input, 130
interrupted. What diagnose says of verdicts is in its own help.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth)))
	for _, newCommand := range commands {
		root.AddCommand(newCommand())
	}
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, args []string) error {
			if c, rest, err := root.Find(args); err != nil || len(rest) > 0 {
				return usageError("no help for %q: see %s --help", strings.Join(args, " "), c.CommandPath())
			}
			return nil
		}
	}
	return root
}

// helpWidth is the width of the help in characters: that of the narrowest terminals.
const helpWidth = 80

// unknownCommand refuses a subcommand that there is not, and names those that may be meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	return usageError("unknown command %q%s: see %s --help", name, didYouMean(cmd.SuggestionsFor(name)), cmd.CommandPath())
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(names, " or ") + "?"
}

// likeFlags are the flags of a command that may be meant by one that there is not.
func likeFlags(cmd *cobra.Command, name string) []string {
	flags := &cobra.Command{SuggestionsMinimumDistance: 2} // which finds the like of commands only
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: "--" + f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return flags.SuggestionsFor("--" + name)
}

// flagError says what is wrong with a flag in the words of its help, and where the help is.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if errors.As(err, &invalid) && errors.As(err, &number) {
		flag := invalid.GetFlag()
		if flag.Value.Type() == "bool" {
			return usageError("--%s: %q is not true or false", flag.Name, invalid.GetValue())
		}
		return usageError("--%s: %q is not a %s", flag.Name, invalid.GetValue(), flag.Usage)
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && len(unknown.GetSpecifiedName()) > 1 {
		return usageError("%w%s: see %s --help", err, didYouMean(likeFlags(cmd, unknown.GetSpecifiedName())), cmd.CommandPath())
	}
	return usageError("%w: see %s --help", err, cmd.CommandPath())
}

// refuseEmpty refuses flags that name something and are empty, as a variable of a script is that nobody has set:
// without them a command would look elsewhere.
func refuseEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "" {
			return usageError("--%s: is empty", name)
		}
	}
	return nil
}
