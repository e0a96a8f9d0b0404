"""Complete commands, printed by `milpath examples`: a shell script with a comment above each command."""

EXAMPLES = r"""# Ready commands; milpath COMMAND --help explains their options.

# == Try it, without data

# train on drawn tissue, a minute on a CPU
milpath train trainer=demo run_name=demo

# see the configuration and stop
milpath train trainer=demo --cfg job

# == From slides to a report

# cut the slides into tiles
milpath tile slides=slides labels=labels.csv output=store

# at a resolution, the tiles with most tissue
milpath tile slides=slides labels=labels.csv output=store microns_per_pixel=1 method=tissue num_tiles=64

# look for duplicates, patients in two splits, and labels that follow the scanner or the file name
milpath check-data data=bag_store data.path=store slides=slides

# train and test
milpath train data=bag_store data.path=store run_name=first

# no patient in two splits
milpath train data=bag_store data.path=store data.group_column=patient_id run_name=grouped

# continue after a stop
milpath train data=bag_store data.path=store run_name=first resume_from=auto

# test the checkpoint
milpath evaluate checkpoint=runs/first/checkpoints/best.ckpt run_name=first_test

# test it on another cohort
milpath evaluate checkpoint=runs/first/checkpoints/best.ckpt data=bag_store data.path=other_store

# does attention show what the network uses? remove tiles and watch the answer
milpath faithfulness checkpoint=runs/first/checkpoints/best.ckpt

# predict new slides
milpath predict checkpoint=runs/first/checkpoints/best.ckpt slides=new_slides output=predictions

# predict in a browser
milpath app checkpoint=runs/first/checkpoints/best.ckpt

# == From your own images (JPEG, PNG, ...) and a table to cross-validated results by patient, and overlays

# encode the images; the table may name them by file
milpath extract slides=images labels=labels.csv id_column=image encoder=efficientnet_lite0 level=0 min_inside=0.5 \
    output=features

# five folds, no patient in two of them
milpath table experiment=frozen_encoder data.path=features data.group_column=patient methods=[gated_attention] \
    folds=5 repeats=1 output=table

# attention and calls of all folds together
milpath predict checkpoint=table slides=images output=predictions

# or train a small network on the tiles themselves
milpath tile slides=images labels=labels.csv id_column=image level=0 output=store
milpath train experiment=own_images data.path=store data.group_column=patient run_name=own

# == From features of a pretrained encoder

# list the encoders, and which of them are on this machine
milpath encoders

# encode slides
milpath extract slides=slides labels=labels.csv output=extracted encoder=uni2_h

# train on them
milpath train data=bag_store data.path=extracted run_name=features

# train on features of TRIDENT, CLAM or STAMP
milpath train data=features data.path=features data.labels=labels.csv

# another network
milpath train data=features data.path=features data.labels=labels.csv model=trans_mil

# == Compare and search

# cross-validate methods
milpath table data=bag_store data.path=store methods=[attention,gated_attention,dsmil] folds=5 repeats=1 \
    output=table

# two runs on the same bags: metrics, curves, cases on which they disagree
milpath compare runs/first runs/grouped

# a sweep of four runs
milpath train -m data=bag_store data.path=store model.gated=true,false seed=1,2

# a search on the validation split
milpath train -m hparams_search=attention_grid data=bag_store data.path=store

# == On a GPU, a cluster, SageMaker

# one GPU, half precision
milpath train trainer=gpu data=bag_store data.path=store

# four GPUs
milpath train trainer=ddp trainer.devices=4 data=bag_store data.path=store

# print the request of a SageMaker job
milpath sagemaker launch data=bag_store data.path='${paths.data_dir}' sagemaker.bucket=BUCKET dry_run=true

# == Paths are taken literally: only the quotes of the shell are needed

milpath tile 'slides=/data/Präparate (2024), A&B' output=store
"""
