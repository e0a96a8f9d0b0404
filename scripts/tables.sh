#!/usr/bin/env bash
# Reproduce every published table, one command per table, with fixed folds and seeds:
#   scripts/tables.sh DATA_FOLDER [OUTPUT_FOLDER] [TABLE...]      e.g. scripts/tables.sh data tables musk1 ucsb
# DATA_FOLDER holds mil_classic, ucsb_breast, glas, colon_cancer and mnist; a missing data set is reported, and the script fails at the
# end. Overrides for every table go into WORDS, such as WORDS="jobs=4". Running it again continues an interrupted table.
set -uo pipefail

data=${1:?give the folder with mil_classic, ucsb_breast, glas, colon_cancer, mnist}
output=${2:-tables}
wanted=" ${*:3} "
python=${PYTHON:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python}
failed=()

table() { # name, file or folder of the data, overrides of milpath.table
    local name=$1 path=$2
    shift 2
    [[ $wanted == "  " || $wanted == *" $name "* ]] || return 0
    echo "== $name"
    # shellcheck disable=SC2086
    "$python" -m milpath.table "$@" data.path="$path" output="$output/$name" seed=0 ${WORDS:-} || failed+=("$name")
}

ensembles=attention_ensemble,gated_attention_ensemble
baselines=attention,gated_attention,instance_max,instance_mean,instance_lse,embedding_max,embedding_mean,embedding_lse

# Published values for comparison: Ilse et al. 2018, quoted from memory of the paper's tables.
table musk1 "$data/mil_classic" experiment=musk1 "methods=[$ensembles,$baselines]" folds=10 repeats=5 \
    'published={attention_ensemble: 0.892, gated_attention_ensemble: 0.900}'
table musk2 "$data/mil_classic" experiment=musk2 "methods=[$ensembles]" folds=10 repeats=5 \
    'published={attention_ensemble: 0.858, gated_attention_ensemble: 0.863}'
table fox "$data/mil_classic" experiment=fox "methods=[$ensembles]" folds=10 repeats=5 \
    'published={attention_ensemble: 0.615, gated_attention_ensemble: 0.603}'
table tiger "$data/mil_classic" experiment=tiger "methods=[$ensembles]" folds=10 repeats=5 \
    'published={attention_ensemble: 0.839, gated_attention_ensemble: 0.845}'
table elephant "$data/mil_classic" experiment=elephant "methods=[$ensembles]" folds=10 repeats=5 \
    'published={attention_ensemble: 0.868, gated_attention_ensemble: 0.857}'
for grouping in tma_group null; do # the paper's folds are not grouped
    name=ucsb$([[ $grouping == null ]] && echo _ungrouped)
    table "$name" "$data/ucsb_breast" experiment=ucsb_breast 'methods=[attention,gated_attention,embedding_mean]' \
        folds=4 repeats=5 data.group_column=$grouping 'published={attention: 0.775, gated_attention: 0.799}'
done
# GlaS: the recipe of ucsb_breast; variants on the folds of the first two repeats.
pair='methods=[attention,embedding_mean]'
table glas "$data/glas" experiment=glas folds=5 repeats=5 \
    'methods=[attention,gated_attention,embedding_mean,embedding_max,multi_head_attention]' \
    'method_options={multi_head_attention: {model.hidden_dim: 128}}'
table glas_augmented "$data/glas" experiment=glas "$pair" folds=5 repeats=2 data.augmentation=full data.augmented_copies=3
table glas_macenko "$data/glas" experiment=glas "$pair" folds=5 repeats=2 model.encoder.stain_normalisation=macenko \
    model.encoder.stain_target_path="$data/ucsb_breast/images/ytma10_010704_benign1_ccd.jpg"
# Folds that share patients, and the official split, of which 11 of 16 patients are on both sides.
table glas_ungrouped "$data/glas" experiment=glas "$pair" folds=5 repeats=1 data.group_column=null
if [[ -f $data/glas/labels.csv ]]; then
    mkdir -p "$output"
    awk -F, 'NR == 1 { print "id,split"; next } { gsub(/.*\/|\.[a-z]+$/, "", $1); print $1 "," ($5 == "train" ? "train" : "test") }' \
        "$data/glas/labels.csv" >"$output/glas_official.csv"
fi
table glas_official "$data/glas" experiment=glas "$pair" folds=5 repeats=1 metric=accuracy data.group_column=null \
    data.splits="$output/glas_official.csv"
table colon "$data/colon_cancer" experiment=colon_cancer 'methods=[attention,gated_attention]' folds=5 repeats=5 \
    'published={attention: 0.968, gated_attention: 0.968}'
# Published values of MNIST-bags: the reference code, mean bag length 10, three seeds.
while read -r bags auc seeds; do
    table "mnist_bags_$bags" "$data/mnist" experiment=mnist_bags 'methods=[attention,gated_attention]' folds="$seeds" repeats=1 \
        data.num_train_bags="$bags" data.num_test_bags=1000 "published={attention: $auc, gated_attention: $auc}"
done <<<'50 0.867 5
100 0.952 20
150 0.963 5
200 0.976 5
300 0.981 5
500 0.985 20'

if ((${#failed[@]})); then
    echo "incomplete: ${failed[*]}" >&2
    exit 1
fi
