package probes

// The committed objects come from Debian 12's clang 14.0.6 (package clang-14) and libbpf-dev 1.1; they reproduce byte for byte with these. No system header is
// read but libbpf's, and no register layout is used, so that one little-endian object serves amd64 and arm64.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -go-package probes -target bpfel -tags linux -type drop_key drops ../bpf/drops.bpf.c -- -O2 -Wall -Werror -nostdinc -idirafter /usr/include
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -go-package probes -target bpfel -tags linux -type retransmit_key -type retransmit_kind -type retransmit_program retransmits ../bpf/retransmits.bpf.c -- -O2 -Wall -Werror -nostdinc -idirafter /usr/include
