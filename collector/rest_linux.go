package collector

import "context"

func readIPSet(context.Context, *target) error { return ErrNotSupported }
func readIPVS(context.Context, *target) error  { return ErrNotSupported }
func readTC(context.Context, *target) error    { return ErrNotSupported }
func readXFRM(context.Context, *target) error  { return ErrNotSupported }
func readBPF(context.Context, *target) error   { return ErrNotSupported }
func (t *target) socketsFromProc() error       { return ErrNotSupported }
