#!/usr/bin/env bash
# --export as a process, and the folder best/ of a run: what is written and refused. What is in an ONNX file is test_onnx.c's,
# what is in a config.json test_timm.c's. Prints "N passed, N failed" last.
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

# ---- best/
evaluation() { "$train" --eval "$1" --threads 1 | sed -n 's/^.*: top-1/top-1/p'; }
same_evaluation() { [ -n "$(evaluation "$1")" ] && diff <(evaluation "$1") <(evaluation "$2"); }
check "best/ has the weights under a second name" test run/best.safetensors -ef run/best/model.safetensors
check "and says what model it is" grep -q '"architecture": "kat_tiny_patch16_224"' run/best/config.json
check "its classes" grep -q '"label_names": \["disc", "ring", ' run/best/config.json
check "its images" grep -q '"crop_pct": 0.875' run/best/config.json
check "a folder evaluates as its file does" same_evaluation run/best run/best.safetensors
check "on the data of its run" says 0 "data       procedural" --eval run/best/ --threads 1
check "a run starts from a folder" says 0 "24 of 24 tensors loaded" --init-from run/best --train-images 40 --test-images 12 --steps 1 --threads 1 --output begun
check "images prepared as there" grep -qx 'crop-pct 0.875' begun/config.txt
rm -r run/best && mkdir run/best && echo old >run/best/model.safetensors && echo mine >run/best/notes.txt
check "a run that goes on" says 0 "best top-1" --resume run --steps 3 --threads 1
check "has its best there again" test run/best.safetensors -ef run/best/model.safetensors -a -s run/best/config.json
check "--overwrite beside the weights that it starts from" says 0 "best top-1" "${tiny[@]}" --init-from run/best --output run --overwrite
check "makes them anew" test run/best.safetensors -ef run/best/model.safetensors
check "and leaves what is no run's" test -s run/best/notes.txt
check "--overwrite by what timm does not have" says 0 "best top-1" "${tiny[@]}" --attn sigmoid --output begun --overwrite
check "leaves no best/" test ! -e begun/best
ln -s "$work/elsewhere" linked && mkdir elsewhere
check "a run in a folder that is a link" says 0 "best/" "${tiny[@]}" --output linked
check "has it there" test elsewhere/best.safetensors -ef elsewhere/best/model.safetensors

swin=(--model swin-mini --dim 16 --heads 2,4 --depth 2,2 --image-size 16 --batch-size 4 --train-images 40 --test-images 12 --steps 1 --threads 1)
check "a Swin" says 0 "best/" "${swin[@]}" --output swin
check "is one of timm's" grep -q '"depths": \[2, 2\],' swin/best/config.json
check "and has a graph" bash -c "'$train' --init-from swin/best --export swin.onnx | grep -E 'wrote|built without protobuf-c'"

# ---- a folder by --export
check "a folder is written" says 0 "timm's kat_tiny_patch16_224" --init-from run/last.resume.safetensors --export out/folder
check "which evaluates as the weights do" same_evaluation out/folder run/last.safetensors
check "the metadata came along" grep -qa '"class_names"' out/folder/model.safetensors
check "again, the same bytes" bash -c "for name in first second; do '$train' --init-from run/last.safetensors --export out/\$name; done; diff -r out/first out/second"
check "what timm does not have is refused" says 2 "timm and the public code of KAT have no model" --init-from begun/last.safetensors --export out/sigmoid
check "with nothing written" test ! -e out/sigmoid
check "a file in the way" says 1 "a file of this name is in the way" --init-from run/last.safetensors --export run/metrics.csv
verdict
