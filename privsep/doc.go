// Package privsep separates privileges: a process that has them, and listens to
// nobody, starts one that has none, and listens. Between them is a channel, a pair of
// connected sockets, over which the half that serves asks the half with privileges.
//
// What may be asked is the handler that Serve is given, and nothing else; requests
// are bounded in number and size. The half that serves learns what it is to do from its
// standard input, which also tells it to end: whichever half ends, the other one does.
package privsep
