"""Which of a node's figures become metrics, and under which names. Pure data; `metrics` serves them."""

from shuffle_worker.metrics import Described

DESCRIBED = (
    Described("bytes_in", "received_bytes", "Payload of frames received from other members", counter=True),
    Described("bytes_out", "sent_bytes", "Payload of frames sent to other members", counter=True),
    Described("frames_in", "received_frames", "Frames received from other members", counter=True),
    Described("frames_out", "sent_frames", "Frames sent to other members", counter=True),
    Described("credit_stalls", "credit_stalls", "Sends that had to wait for credit", counter=True),
    Described("credit_stall_s", "credit_stall_seconds", "Time that sends waited for credit", counter=True),
    Described("refused_frames", "refused_frames", "Frames refused, by reason", label="reason", counter=True),
    Described("refused_hellos", "refused_hellos", "Connections refused, by reason", label="reason", counter=True),
    Described("used_bytes", "memory_used_bytes", "Memory accounted: buffers, credit granted, permits"),
    Described("limit_bytes", "memory_limit_bytes", "Memory that data may use"),
    Described("resident_bytes", "held_memory_bytes", "Frames held in memory"),
    Described("spilled_bytes", "held_spilled_bytes", "Frames held on spill disks"),
    Described("frames", "held_frames", "Frames held, in memory and on disks"),
    Described("spilled_bytes_total", "spilled_bytes", "Written to spill disks", counter=True),
    Described("read_back_bytes_total", "read_back_bytes", "Read back from spill disks", counter=True),
    Described("stalls", "memory_stalls", "Waits for memory", counter=True),
    Described("disk_free_bytes", "spill_free_bytes", "Free on spill disks", label="directory"),
)
