#!/usr/bin/env bash
# --export as a process: what it writes and refuses. What is in an ONNX file is test_onnx.c's. Prints "N passed, N failed" last.
. "$(dirname "$0")/trainer_test.sh"
cd "$work" || exit 1

tiny=(--model kat-mini --dim 24 --depth 1 --image-size 16 --batch-size 4 --train-images 40 --test-images 12 --steps 2 --threads 1)
check "a run to export" "$train" "${tiny[@]}" --crop-pct 0.875 --output run

# ---- the command line
check "without a model" says 2 "--export needs a model: give --init-from FILE.safetensors" --export model.onnx
check "two models" says 2 "--export takes one model" --export model.onnx --init-from run/best.safetensors --eval run/best.safetensors
check "with another thing to do" says 2 "--export does nothing else: leave --gradcheck out" --export model.onnx --init-from run/best.safetensors --gradcheck
check "beside --classify" says 2 "--classify does nothing else: leave --export out" --classify run --export model.onnx --init-from run/best.safetensors
check "a model that is not there" says 1 "cannot open absent.safetensors" --export model.onnx --init-from absent.safetensors
check "nothing was written" test ! -e model.onnx

# ---- ONNX
onnx=(--init-from run/best.safetensors --export model.onnx)
if "$train" "${onnx[@]}" 2>&1 | grep -qF "built without protobuf-c"; then
    check "without protobuf-c it says what to install" says 2 "install the packages libprotobuf-c-dev and protobuf-c-compiler" "${onnx[@]}"
else
    holds() { grep -qaF -- "$1" model.onnx; }
    check "a file is written" says 0 "wrote model.onnx: " "${onnx[@]}"
    check "which names operations" holds "blocks.0.attn/Softmax"
    check "weights" holds "blocks.0.mlp.fc1.weight"
    check "the size of images" holds "[3, 16, 16]"
    check "the crop" holds "0.875"
    check "the classes" holds '["disc", "ring", '
    mv model.onnx first.onnx
    check "--eval names the model as well" says 0 "wrote" --eval run/best.safetensors --export model.onnx
    check "again, the same bytes" cmp first.onnx model.onnx
    check "the file to resume from holds a model" says 0 "wrote" --init-from run/last.resume.safetensors --export model.onnx
    check "a folder that is not there" says 1 "make its folder first" --init-from run/best.safetensors --export absent/model.onnx
    check "what is written is no model to read" says 1 "an ONNX file, most likely" --eval model.onnx
fi
verdict
