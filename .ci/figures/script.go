package main

import (
	"regexp"
	"strings"
)

// script is one JavaScript file: its comments by line, and its identifiers where they first stand.
type script struct {
	path        string
	comments    []lineOf
	identifiers []lineOf
}

// lineOf is a piece of a script and its line.
type lineOf struct {
	line int
	text string
}

// jsToken matches the next token of a script: a comment, a string, a template, a name, a number,
// space, or one other character.
var jsToken = regexp.MustCompile("(?s)^(?:" +
	`(//[^\n]*|/\*.*?\*/)` + // 1: a comment
	`|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')` + // 2: a string
	"|(`(?:\\\\.|[^`\\\\])*`)" + // 3: a template; names in its expressions are not looked at
	`|([A-Za-z_$][A-Za-z0-9_$]*)` + // 4: a name
	`|([0-9][A-Za-z0-9_.]*)` + // 5: a number
	`|(\s+)` + // 6: space
	`|(.))`) // 7: anything else

// jsRegexp is a regular expression, which begins as a division does.
var jsRegexp = regexp.MustCompile(`^/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*`)

// beforeRegexp are the characters and words after which a slash begins a regular expression.
const beforeRegexp = "(,=:[!&|?{};+-*%<>~^"

// scan finds the comments and identifiers of a script.
func scan(path, text string) *script {
	s := &script{path: path}
	seen := map[string]bool{}
	line, last := 1, "("
	for len(text) > 0 {
		m := jsToken.FindStringSubmatch(text)
		all := m[0]
		if m[7] == "/" && (strings.Contains(beforeRegexp, last) || last == "return") {
			if r := jsRegexp.FindString(text); r != "" {
				all = r
			}
		}
		switch {
		case m[1] != "":
			for i, part := range strings.Split(m[1], "\n") {
				s.comments = append(s.comments, lineOf{line + i, part})
			}
		case m[4] != "":
			if !seen[m[4]] {
				s.identifiers = append(s.identifiers, lineOf{line, m[4]})
			}
			seen[m[4]] = true
		}
		if m[1] == "" && m[6] == "" {
			last = all
		}
		line += strings.Count(all, "\n")
		text = text[len(all):]
	}
	return s
}
