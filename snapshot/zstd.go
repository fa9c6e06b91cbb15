package snapshot

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// packer compresses and unpacks blobs. It is safe for concurrent use.
type packer struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func newPacker(limit uint64) packer {
	// Neither can fail with these options. EncodeAll and DecodeAll start no
	// goroutines.
	encoder, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	decoder, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(limit))
	return packer{encoder, decoder}
}

// pack compresses. The encoder makes room for what cannot be compressed, which is not kept.
func (p packer) pack(data []byte) []byte { return bytes.Clone(p.encoder.EncodeAll(data, nil)) }

// unpack returns what was packed, which has to be of that size if it is not
// negative.
func (p packer) unpack(packed []byte, size int64) ([]byte, error) {
	var header zstd.Header
	if err := header.Decode(packed); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if size >= 0 && header.HasFCS && header.FrameContentSize != uint64(size) {
		return nil, fmt.Errorf("unpacks to %d bytes, not %d", header.FrameContentSize, size)
	}
	data, err := p.decoder.DecodeAll(packed, make([]byte, 0, max(0, size)))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if size >= 0 && int64(len(data)) != size {
		return nil, fmt.Errorf("unpacks to %d bytes, not %d", len(data), size)
	}
	return data, nil
}
