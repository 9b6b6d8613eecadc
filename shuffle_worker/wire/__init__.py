"""What the transport is told and what it tells: plain values. No sockets, no native code."""
