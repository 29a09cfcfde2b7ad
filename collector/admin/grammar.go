package admin

import (
	"fmt"
	"io"

	"github.com/alecthomas/kong"
)

// grammar is the command line behind `collector`.
type grammar struct {
	DataDir string        `help:"Directory of the collector's data." placeholder:"DIR"`
	Board   boardGrammar  `cmd:"" help:"Boards: who they are, their labels and keys."`
	User    userGrammar   `cmd:"" help:"People who log in."`
	Token   tokenGrammar  `cmd:"" help:"API tokens for programs."`
	Backup  backupGrammar `cmd:"" help:"Backups that are known to restore."`
	Rules   rulesGrammar  `cmd:"" hidden:"" help:"Rules over what is stored."`

	Customer    customerGrammar    `cmd:"" help:"Customers, and what they have set."`
	Maintenance maintenanceGrammar `cmd:"" help:"Times in which nobody is paged for some boards."`
}

type boardGrammar struct {
	Add    boardAdd    `cmd:"" help:"Register a board and print its enrolment token."`
	List   boardList   `cmd:"" help:"List the boards."`
	Token  boardToken  `cmd:"" help:"Print a new enrolment token, for one board or for a rack of new ones."`
	Label  boardLabel  `cmd:"" help:"Change labels; an empty value deletes one."`
	Move   boardMove   `cmd:"" help:"Say that a board stands in another rack."`
	Revoke boardRevoke `cmd:"" help:"Forget a board's key and cut its connection."`
	Retire boardRetire `cmd:"" help:"Take a board out of service for good; its history stays."`
}

type userGrammar struct {
	Add    userAdd    `cmd:"" help:"Make a login; the password is asked for, or is one line on stdin."`
	List   userList   `cmd:"" help:"List the users."`
	Passwd userPasswd `cmd:"" help:"Change a password and end the user's sessions."`
	Remove userRemove `cmd:"" help:"Remove a login."`
}

type tokenGrammar struct {
	Create tokenCreate `cmd:"" help:"Print a new API token."`
	List   tokenList   `cmd:"" help:"List the API tokens."`
	Revoke tokenRevoke `cmd:"" help:"End an API token."`
}

type backupGrammar struct {
	Config  string        `help:"The collector's configuration, where none runs on the data directory." placeholder:"FILE"`
	Create  backupCreate  `cmd:"" help:"Make a backup, restore it in a test, and print its name."`
	List    backupList    `cmd:"" help:"List the backups, the newest first."`
	Verify  backupVerify  `cmd:"" help:"Restore a backup in a test once more."`
	Restore backupRestore `cmd:"" help:"Bring a backup back into --data-dir; no collector may run there."`
}

// command is one thing to do.
type command interface{ run(*call) error }

// parse returns the command that args spell, or nil when they asked for help,
// which then is on stdout.
func parse(args []string, stdout, stderr io.Writer) (command, error) {
	helped := false
	parser, err := kong.New(&grammar{}, kong.Name("collector"), kong.Writers(stdout, stderr),
		kong.Description("Boards, users, API tokens, backups and maintenances of a collector."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Exit(func(int) { helped = true }))
	if err != nil {
		return nil, fmt.Errorf("build commands: %w", err)
	}
	k, err := parser.Parse(args)
	if helped {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: `collector board|user|token|customer|backup|maintenance --help` shows how to write it", err)
	}
	c, ok := k.Selected().Target.Addr().Interface().(command)
	if !ok {
		return nil, fmt.Errorf("%s: name a command: --help lists them", k.Command())
	}
	return c, nil
}
