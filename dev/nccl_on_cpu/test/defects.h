// Defects planted on request: `test_nccl_emu NAME` runs with that one, in one of its processes or in all. For each, the
// build and environment in which it has to be found, and words that one of them then prints.
#pragma once

#define DEFECTS(D) \
    D(none,                    "plain", "",            "0 failed") \
    D(other_length,            "plain", "",            "of another length") \
    D(other_type,              "plain", "",            "of another type") \
    D(graph_on_one,            "plain", "",            "in a graph, one without") \
    D(host_pointer,            "plain", "",            "is not device memory") \
    D(past_the_end,            "plain", "",            "not inside one device allocation") \
    D(dies,                    "plain", "",            "a peer has died") \
    D(dies_and_error_is_asked, "plain", "",            "remote error") \
    D(stops,                   "plain", "",            "no progress for too long") \
    D(skips_exchange,          "plain", "",            "a peer has left") \
    D(never_comes,             "plain", "",            "1 of 2 ranks have come") \
    D(send_group_first,        "plain", "",            "no progress for too long") \
    D(another_stream,          "plain", "",            "on another stream") \
    D(one_device_for_all,      "plain", "EMU_DEVICES=2", "both use device 0") \
    D(asks_about_device_0,     "plain", "EMU_DEVICES=2", "device 0 is asked about") \
    D(no_event_before_send,    "plain", "EMU_LATE=1 EMU_ORDER=random:1", "FAILED") \
    D(merges_before_receive,   "plain", "EMU_LATE=1 EMU_ORDER=random:1", "FAILED") \
    D(rewritten_too_early,     "plain", "EMU_LATE=1",  "FAILED") \
    D(wire_not_joined,         "plain", "",            "joined again") \
    D(read_too_early,          "plain", "EMU_LATE=1",  "FAILED") \
    D(sends_unwritten,         "race",  "",            "uninitialised device memory")

enum Defect {
#define DEFECT(name, ...) name,
    DEFECTS(DEFECT)
#undef DEFECT
};
